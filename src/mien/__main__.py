"""`python -m mien` is the command line."""

import sys

from mien.apps.cli.cli import main

if __name__ == "__main__":
    sys.exit(main())
