"""``python -m colorquant_nn`` is the command ``colorquant``."""

import sys

from colorquant_nn.cli import main

if __name__ == "__main__":
    sys.exit(main())
