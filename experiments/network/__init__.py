"""How few colours a network needs, if the colours are chosen for it.

Each part of the study is a file with a ``main``; ``python -m experiments.network PART --help`` runs
it, and ``python -m experiments.network report`` writes ``experiments/results/network.md`` from what
all have left in ``experiments/results/network/``.
"""
