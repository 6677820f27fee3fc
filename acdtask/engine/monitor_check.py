"""Checks whether a monitor can run: its area, its source and its layout. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from acdtask.cube.aoi import load_aoi
from acdtask.cube.layout_rules import require_usable
from acdtask.engine.planning import NAMED_AT_MOST
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Draft, Job, Settings, Site
from acdtask.jobs.ingest.settings import INGESTER
from acdtask.raster.grid import Layout

__all__ = ["check_area", "check_plan", "error_of_all"]

NOT_YET = frozenset(
    {ErrorCode.CUBE_UNKNOWN, ErrorCode.LAYOUT_UNKNOWN, ErrorCode.BASELINE_UNKNOWN, ErrorCode.MONITOR_UNKNOWN}
)
"""Errors of a first job that an earlier run of another monitor would prevent."""


def check_area(address: str, layout: str, cell_size: int) -> None:
    """Check an area: its geometry, its name and dates, and the grid in its graph_config.

    Args:
        address: address of the AOI.
        layout: name of the layout that gets this grid.
        cell_size: width and height of that layout's cells in pixels.

    Raises:
        AcdError: errors of `load_aoi`; LAYOUT_INVALID, NAME_INVALID and NAME_TOO_LONG of the layout.
    """
    aoi = load_aoi(address)
    grid = aoi.layout_grid(cell_size)
    if grid is not None and layout:
        require_usable(Layout(name=layout, grid=grid))


def check_plan(job: Job[Any, Any], settings: Settings, site: Site) -> str:
    """Make the plan of a monitor's first job without storing it, and describe it in a sentence.

    A cube, a layout or a baseline that another job makes first is no error.

    Raises:
        AcdError: what planning raises.
    """
    if getattr(settings, "source", "") == INGESTER:  # its plan posts the area
        return "the ingester was not asked"
    try:
        draft: Draft[Any, Any] = job.plan(settings, site)
    except AcdError as error:
        if error.code not in NOT_YET:
            raise
        return f"not ready yet: {error.detail}"
    unusable = f", {len(draft.unusable)} unusable" if draft.unusable else ""
    if draft.nothing_to_do:
        return f"nothing to do, {draft.nothing_to_do}{unusable}"
    return f"{draft.estimate.tiles} {job.unit} to {job.name}{unusable}"


def error_of_all(failures: Sequence[tuple[str, AcdError]], monitors: int) -> AcdError:
    """The error that names the failures of all monitors, up to NAMED_AT_MOST.

    Args:
        failures: names of monitors, each with one of its errors.
        monitors: number of monitors that were checked.

    Returns:
        MONITORS_UNCHECKED if every failure is transient, otherwise MONITORS_INVALID.

    >>> wrong = AcdError(ErrorCode.AOI_EMPTY, "the AOI has no polygon with an area")
    >>> print(error_of_all([("koln", wrong)], monitors=2).detail)
    1 of 2 monitors: koln: ACD-111: the AOI has no polygon with an area. Draw at least one polygon with an area
    """
    transient = all(error.code.value.retryable for _, error in failures)
    named = "; ".join(f"{name}: {error}".removesuffix(".") for name, error in failures[:NAMED_AT_MOST])
    more = f"; and {len(failures) - NAMED_AT_MOST} more errors" if len(failures) > NAMED_AT_MOST else ""
    code = ErrorCode.MONITORS_UNCHECKED if transient else ErrorCode.MONITORS_INVALID
    return AcdError(code, f"{len({name for name, _ in failures})} of {monitors} monitors: {named}{more}")
