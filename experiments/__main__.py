"""``python -m experiments``."""

from experiments.train import run

if __name__ == "__main__":
    run()
