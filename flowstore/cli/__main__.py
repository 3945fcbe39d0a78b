"""Makes `python -m flowstore.cli` the command line."""

import sys

from flowstore.cli._main import main

if __name__ == "__main__":
    sys.exit(main())
