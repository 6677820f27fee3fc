"""Write the WorkflowTemplates into the chart, or into a folder: `python -m workflows [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

from workflows.rendering import CHART_FILES, write_all

if __name__ == "__main__":
    for path in write_all(Path(sys.argv[1]) if len(sys.argv) > 1 else CHART_FILES):
        sys.stdout.write(f"{path}\n")
