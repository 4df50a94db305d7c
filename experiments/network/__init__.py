"""How few colours a network needs, if the colours are chosen for it.

Each part of the study is a file with a ``run``; ``python -m experiments.network PART --help`` tells
how to run it. Its records lie in ``runs/network``, and ``python -m experiments.network report``
writes ``experiments/results/network.md`` and ``network.json`` from them.
"""
