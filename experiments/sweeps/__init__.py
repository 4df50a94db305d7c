"""What needs many runs: each writes a table and a plot into `experiments/results`."""
