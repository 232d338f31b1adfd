"""`python -m kerash5` is `kerash5`."""

import sys

from kerash5.cli._main import main

if __name__ == "__main__":
    sys.exit(main())
