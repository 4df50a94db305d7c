"""``python -m colorquant_nn`` is the command ``colorquant``."""

import signal
import sys


def run() -> None:
    """Run the command, and end the process with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of an import
    from colorquant_nn.cli import main

    sys.exit(main())


if __name__ == "__main__":
    run()
