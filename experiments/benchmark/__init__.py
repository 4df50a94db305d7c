"""Ours beside what users would pick instead: ``python -m experiments.benchmark --help``.

A suite is a list of cases, a case a piece of work with a method per library. Each method has a
process of its own, or those of a case share one; `runner` asks for one run at a time, in turn, and
`report` and `figure` write what came of it.
"""
