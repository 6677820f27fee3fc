"""Runs a rendered template on this machine, each pod as a process: `python -m workflows.run --help`.

The runner itself is equipment of the tests, which compare it with a real Argo.
"""

from __future__ import annotations

import sys

from tests.workflows.equipment.run import main

if __name__ == "__main__":
    sys.exit(main())
