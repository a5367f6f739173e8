"""``python -m captionkit``: the command line."""

import sys

from captionkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
