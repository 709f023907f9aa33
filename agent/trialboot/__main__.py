"""`python3 -m trialboot`: the command line."""

import sys

from trialboot.cli import main

if __name__ == "__main__":
    sys.exit(main())
