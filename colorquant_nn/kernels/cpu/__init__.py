"""The operations on the CPU, compiled by numba; `colorquant_nn.kernels.ops` names them.

``runtime`` compiles functions and shares their work among threads. ``tiles`` and ``grid`` are what
several operations are made of: 512 points at a time, and lists of the centroids near a place. Each
other file is one idea: ``assign``, ``kmeans`` (of every image), ``search`` (for a palette),
``colors`` (counting them), ``convert`` (between spaces), ``dither`` and ``spatial`` (dots that mix
in the eye).
"""
