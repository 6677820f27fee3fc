"""What a report shows of a fusion: the patches that several series found together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import shapely
from pydantic import BaseModel
from shapely.geometry.base import BaseGeometry

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.fuse.content import FusedMonth, FusedWindow, FusionManifest
from acdtask.jobs.fuse.files import FusedPatch
from acdtask.jobs.fuse.months import findings_of, parse_fusion, read_windows
from acdtask.jobs.manifests import latest_id, manifest_chain
from acdtask.jobs.report.model import FusedPage, FusedRow

__all__ = ["Fusion", "PlannedFusion"]


class PlannedFusion(BaseModel):
    """A fusion to show: its id, and the number of its manifest."""

    fusion: str
    version: int


class Fusion:
    """Reads a fusion for a report, only the months that are shown."""

    def __init__(self, site: Site, manifest: FusionManifest, version: int) -> None:
        self._store, self._manifest = site.store, manifest
        self.planned = PlannedFusion(fusion=manifest.content_id, version=version)

    @classmethod
    def of_series(cls, name: str, series: str, aoi: str, site: Site) -> Fusion | None:
        """The newest version of the fusion of a name; None if there is none or the series is not a member of it."""
        fusion = latest_id(site.store, aoi, "fuse", name)
        number, body = manifest_chain(site.store, aoi, "fuse", fusion).newest() if fusion else (0, None)
        manifest = parse_fusion(body, site.store) if body else None
        if manifest is None or series not in {member.series for member in manifest.members}:
            return None
        return cls(site, manifest, number)

    @classmethod
    def of_plan(cls, planned: PlannedFusion | None, aoi: str, site: Site) -> Fusion | None:
        """The version of a plan. FUSION_UNKNOWN if it was deleted since."""
        if planned is None:
            return None
        body = manifest_chain(site.store, aoi, "fuse", planned.fusion).version(planned.version)
        if body is None:
            raise AcdError(ErrorCode.FUSION_UNKNOWN, f"{site.address} has no fusion {planned.fusion} of {aoi}")
        return cls(site, parse_fusion(body, site.store), planned.version)

    def inputs(self, month: str = "") -> list[str]:
        """The parts of a month, or of all; they change with what is shown."""
        return [part for each in self._months(month) for part in (each.document, each.parquet)]

    def page(self, *, month: str = "", since: date | None = None) -> FusedPage:
        """The windows that end in a month, or on a date and later, with their patches; all by default."""
        first = f"{since:%Y-%m}" if since else ""
        months = [each for each in self._months(month) if each.month >= first]
        windows = {
            window.label: window
            for each in months
            for window in read_windows(each, self._store)
            if since is None or window.datetime.date() >= since
        }
        names = _short([member.name for member in self._manifest.members])
        patches = [patch for patch in findings_of(months, self._store) if patch.window in windows]
        rows = [_row(patch, windows[patch.window], names) for patch in patches]
        return FusedPage(
            members=tuple(names.values()),
            windows=len(windows),
            held_back=sum(window.held_back for window in windows.values()),
            rows=tuple(sorted(rows, key=lambda row: (-row.end.toordinal(), row.window, -row.probability, row.id))),
        )

    def _months(self, month: str) -> list[FusedMonth]:
        return [each for each in self._manifest.months if month in ("", each.month)]


def _short(members: Sequence[str]) -> dict[str, str]:
    """The part of each name that differs: the name of the result, or all of VARIABLE/LAYOUT/NAME.

    >>> _short(["CoherenceVV/west/ascending", "CoherenceVV/east/descending"])
    {'CoherenceVV/west/ascending': 'ascending', 'CoherenceVV/east/descending': 'descending'}
    >>> _short(["CoherenceVV/utm/monitor", "CoherenceVH/utm/monitor"])["CoherenceVV/utm/monitor"]
    'CoherenceVV/utm/monitor'
    """
    last = {member: member.rpartition("/")[2] for member in members}
    return last if len(set(last.values())) == len(last) else {member: member for member in members}


def _row(patch: FusedPatch, window: FusedWindow, names: dict[str, str]) -> FusedRow:
    return FusedRow(
        id=patch.id,
        window=patch.window,
        start=window.start.date(),
        end=window.datetime.date(),
        area_ha=patch.area_m2 / 1e4,
        probability=patch.probability,
        found_by=tuple(names[member] for member in patch.members.split(",")),
        reason=patch.reason,
        lon=patch.geometry.centroid.x,
        lat=patch.geometry.centroid.y,
        outline=tuple(_rings(patch.geometry)),
    )


def _rings(geometry: BaseGeometry) -> Iterable[tuple[tuple[float, float], ...]]:
    """The outer rings, each without its last corner, which is its first."""
    for polygon in shapely.get_parts([geometry], return_index=False):
        yield tuple((x, y) for x, y in polygon.exterior.coords[:-1])
