"""Run the command line: ``python -m captionkit``."""

import sys

from captionkit.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
