"""`python -m mixlaw`: the command line."""

import sys

from mixlaw.cli.main import main

sys.exit(main())
