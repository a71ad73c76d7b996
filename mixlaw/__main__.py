"""`python -m mixlaw`: the command line."""

import sys

from mixlaw.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
