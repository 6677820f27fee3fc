"""Write the WorkflowTemplates and the schema of the settings into the chart: `python -m workflows [FOLDER]`.

With a folder, only the templates are written, there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from workflows.rendering import CHART_FILES, write_all
from workflows.values_schema import write_schema

if __name__ == "__main__":
    paths = write_all(Path(sys.argv[1])) if len(sys.argv) > 1 else [*write_all(CHART_FILES), write_schema()]
    for path in paths:
        sys.stdout.write(f"{path}\n")
