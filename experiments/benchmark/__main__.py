"""``python -m experiments.benchmark``."""

if __name__ == "__main__":  # the processes of the methods import this file too, and nothing more
    from experiments.benchmark.command import main

    main()
