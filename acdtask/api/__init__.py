"""The Python interface: coherence as numpy or xarray arrays in, baselines, changes and patches out.

`import acdtask` gives the names of this package; each is imported when it is first used.
"""

from __future__ import annotations

from acdtask.api.baseline import Baseline, baseline
from acdtask.api.cube import OpenedCube, open_cube
from acdtask.api.monitor import Change, monitor, patches
from acdtask.api.patches import PatchTable, TablePatch

__all__ = [
    "Baseline",
    "Change",
    "OpenedCube",
    "PatchTable",
    "TablePatch",
    "baseline",
    "monitor",
    "open_cube",
    "patches",
]
