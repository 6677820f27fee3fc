"""acd: watch areas for abnormal change in radar coherence.

The Python interface, on numpy and xarray arrays:

    import acdtask

    cube = acdtask.open("cube")  # a folder or s3://bucket/prefix
    usual = acdtask.baseline(cube.images(end="2020-12-31"))  # any array (time, y, x) of coherence
    image = cube.images(start="2021-01-01").isel(time=0)
    change = acdtask.monitor(image, usual)  # z, mask, quality
    acdtask.patches(change)  # a table; .to_geojson(), .to_geopandas()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acdtask.api.baseline import Baseline, baseline
    from acdtask.api.cube import OpenedCube
    from acdtask.api.cube import open_cube as open  # noqa: A004  # acdtask.open, as xarray and rasterio have it
    from acdtask.api.monitor import Change, monitor, patches
    from acdtask.api.patches import PatchTable, TablePatch
    from acdtask.errors import AcdError, ErrorCode

__version__ = "0.1.0"

__all__ = [
    "AcdError",
    "Baseline",
    "Change",
    "ErrorCode",
    "OpenedCube",
    "PatchTable",
    "TablePatch",
    "baseline",
    "monitor",
    "open",
    "patches",
]

_PLACES = {
    "AcdError": "acdtask.errors:AcdError",
    "Baseline": "acdtask.api.baseline:Baseline",
    "Change": "acdtask.api.monitor:Change",
    "ErrorCode": "acdtask.errors:ErrorCode",
    "OpenedCube": "acdtask.api.cube:OpenedCube",
    "PatchTable": "acdtask.api.patches:PatchTable",
    "TablePatch": "acdtask.api.patches:TablePatch",
    "baseline": "acdtask.api.baseline:baseline",
    "monitor": "acdtask.api.monitor:monitor",
    "open": "acdtask.api.cube:open_cube",
    "patches": "acdtask.api.monitor:patches",
}
"""Where each name is; it is imported when it is first used, so that the command line answers at once."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'acdtask' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    found = globals()[name] = getattr(import_module(module), attribute)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
