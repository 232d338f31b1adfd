"""`python -m kerash5` is `kerash5`."""

import sys

from kerash5._cli import main

if __name__ == "__main__":
    sys.exit(main())
