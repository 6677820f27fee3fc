"""`python -m acdtask` is the command `acdtask`."""

import sys

from acdtask.cli import main

if __name__ == "__main__":  # a spawned worker imports this file again
    sys.exit(main())
