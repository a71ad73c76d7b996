"""`python -m mixlaw.cli`: the command line."""

import sys

from mixlaw.cli.main import main

sys.exit(main())
