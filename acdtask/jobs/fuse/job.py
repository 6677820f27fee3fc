"""The job fuse: joins the candidates of several monitoring results of an area in windows of time."""

from __future__ import annotations

from collections.abc import Sequence

from acdtask.cube.aoi import Aoi, load_aoi
from acdtask.jobs.contract import (
    AGAIN,
    Draft,
    Estimate,
    Findings,
    Handouts,
    Job,
    Nothing,
    Results,
    Round,
    Site,
    content_id_of,
)
from acdtask.jobs.costs import FUSE
from acdtask.jobs.fuse.content import (
    FuseContent,
    FuseContext,
    FusedImage,
    FusedWindow,
    FusedWindows,
    FusePlan,
    FuseWork,
    Member,
    PlannedWindow,
)
from acdtask.jobs.fuse.files import fused_to_parquet
from acdtask.jobs.fuse.news import findings_of_window, pending_findings, series_of_fusion
from acdtask.jobs.fuse.publish import newest_fusion, patch_files, publish_fusion, windows_of_plan
from acdtask.jobs.fuse.settings import FuseSettings
from acdtask.jobs.fuse.window import fuse_window
from acdtask.jobs.fuse.windows import find_members, judged_by, planned_windows
from acdtask.jobs.manifests import is_latest
from acdtask.jobs.monitor.models import models_id
from acdtask.jobs.parts import write_part
from acdtask.jobs.shards import Sharding, no_work
from acdtask.jobs.stacks import area_of, tiles_of_aoi

__all__ = ["FuseJob"]

ALGORITHM = 2
"""Raise it when the same members and settings give different results."""
BECOMES_LATEST = "these windows are already fused, and their result becomes the latest again"


class FuseWindows(Round[FuseWork, Nothing, FusedWindows]):
    """Fuse each window, then publish all."""

    name = "fuse"

    def run(self, work: FuseWork, handout: Nothing, context: FuseContext) -> FusedWindows:
        """Fuse the windows of a shard, and write the findings of each."""
        fused = []
        for done, window in enumerate(work.windows, start=1):
            fused.append(_fused(window, context))
            context.progress(done)
        return FusedWindows(windows=fused)

    def gather(self, results: Results[FuseWork, FusedWindows], context: FuseContext) -> Handouts[Nothing]:
        """Publish the windows. Those of shards that are left out are in the next plan."""
        publish_fusion(context.plan, [window for _, shard in results for window in shard.windows], context.site)
        return Handouts()

    def files_of(self, result: FusedWindows, plan: FusePlan) -> tuple[str, ...]:
        """The tables of its windows."""
        return tuple(window.table for window in result.windows)


def _fused(window: PlannedWindow, context: FuseContext) -> FusedWindow:
    content = context.content
    findings, area_km2 = fuse_window(window, context.settings, content, context.site)
    patches = [finding for finding in findings if finding.kept]
    stem = f"{content.folder}/windows/{window.label}"
    return FusedWindow(
        label=window.label,
        start=window.start,
        datetime=window.datetime,
        inputs=window.inputs,
        images={
            content.members[image.member].name: FusedImage(label=image.label, datetime=image.datetime)
            for image in window.images
        },
        table=write_part(context.site.store, stem, ".parquet", fused_to_parquet(findings)),
        patches=len(patches),
        held_back=len(findings) - len(patches),
        changed_area_m2=round(sum(patch.area_m2 for patch in patches), 1),
        judged_km2=round(area_km2, 6),
    )


class FuseJob(Job[FuseSettings, FuseContent]):
    """Fuses monitoring results of several tracks or polarisations."""

    name = "fuse"
    algorithm = ALGORITHM
    unit = "windows"
    rounds = (FuseWindows(),)
    settings = FuseSettings
    content = FuseContent

    def plan(self, settings: FuseSettings, site: Site) -> Draft[FuseContent, FuseWork]:
        """Plan the windows with new images. MONITOR_UNKNOWN, MEMBERS_UNFIT."""
        aoi = load_aoi(settings.aoi)
        manifests = find_members(settings, aoi, site)
        members = tuple(Member(name=name, series=manifest.content_id) for name, manifest in manifests.items())
        identity = {
            "aoi": aoi.name,
            "area": area_of(aoi),
            "members": [member.series for member in members],
            "models": models_id(),
            "name": settings.name,
            "window_days": settings.window_days,
            "false_per_1000km2": settings.false_per_1000km2,
        }
        fusion = content_id_of(self.name, self.algorithm, identity)
        known = newest_fusion(site.store, aoi.name, fusion)
        planned = planned_windows(members, [*manifests.values()], settings.window_days, known, site.store)
        windows, earlier = planned.windows, planned.earlier
        done = {(window.label, window.inputs) for window in planned.fused}
        pending = [window for window in windows if (window.label, window.inputs) not in done]
        stale = {window.label for window in planned.fused} - {window.label for window in windows}
        current = is_latest(site.store, aoi.name, self.name, settings.name, fusion)
        again = not pending and bool(windows) and not (current and not stale)
        cost = _Cost(members, aoi, site)
        seconds = [cost.seconds(window) for window in pending]
        shards = Sharding(settings.shard_windows, settings.pod_start, otherwise=10).shards(
            pending, lambda part: FuseWork(windows=part), seconds
        )
        return Draft(
            content=FuseContent(
                aoi=aoi.name,
                area=area_of(aoi),
                fusion=fusion,
                members=members,
                judged_by=judged_by(next(iter(manifests.values()))),
                since=planned.since,
                windows={window.label: window.inputs for window in windows},
                sources=planned.sources,
                pending=tuple(window.label for window in pending),
            ),
            shards=no_work(FuseWork(windows=[])) if again else shards,
            estimate=cost.estimate(pending),
            notes={
                "fused already": earlier + len(windows) - len(pending),
                **({AGAIN: BECOMES_LATEST} if again else {}),
            },
            series=series_of_fusion(
                aoi.name, fusion, settings.name, members, windows[-1].datetime if windows else None
            ),
            nothing_to_do="" if pending or again else _why_nothing(earlier + len(windows)),
        )

    def fenced_area(self, settings: FuseSettings) -> str:
        """The AOI of the result."""
        return load_aoi(settings.aoi).name

    def artifacts(self, plan: FusePlan, site: Site) -> dict[str, str]:
        """The files with the patches of the plan's windows."""
        return patch_files(plan)

    def findings(self, plan: FusePlan, site: Site) -> Findings:
        """Windows, patches and changed area of this plan, and the files with its patches."""
        windows = windows_of_plan(plan, site)
        news = pending_findings(windows, plan.series, site)
        return Findings(
            figures={
                "windows": len(windows),
                "patches": sum(window.patches for window in windows),
                "held_back": sum(window.held_back for window in windows),
                "changed_area_m2": round(sum(window.changed_area_m2 for window in windows), 1),
                "windows_of_one_member": sum(len(window.images) == 1 for window in windows),
                "news_patches": sum(window.patches or 0 for window in news),
                "news_area_m2": round(sum(window.changed_area_m2 or 0.0 for window in news), 1),
            },
            images=[findings_of_window(window, site) for window in windows],
            files={name: site.store.address_of(key) for name, key in self.artifacts(plan, site).items()},
        )

    def notes(self, plan: FusePlan, site: Site) -> list[str]:
        """Patches of the windows, and how many windows lack a member."""
        windows, members = windows_of_plan(plan, site), len(plan.content.members)
        if not windows:
            return []
        patches, held_back = (sum(getattr(window, name) for window in windows) for name in ("patches", "held_back"))
        lines = [f"{patches} patches in {len(windows)} windows of {members} members; {held_back} held back"]
        if lacking := sum(len(window.images) < members for window in windows):
            lines.append(
                f"{lacking} of {len(windows)} windows lack an image of a member: the others count alone; --window-days"
                " sets how far apart the images of a window may be"
            )
        return lines

    def is_published(self, plan: FusePlan, site: Site) -> bool:
        """Whether the windows of the plan are in the newest manifest."""
        return len(windows_of_plan(plan, site)) == len(plan.content.pending)


class _Cost:
    """What it costs to fuse windows: mostly reading the masks of the members' images, at most all of each."""

    def __init__(self, members: Sequence[Member], aoi: Aoi, site: Site) -> None:
        layouts = [site.cube.layout(member.layout) for member in members]
        self._tile_pixels = max(layout.cell_pixels**2 for layout in layouts)
        self._tiles = [len(tiles_of_aoi(aoi, layout)) for layout in layouts]
        self._mask_bytes = [
            2 * count * layout.cell_pixels**2 for count, layout in zip(self._tiles, layouts, strict=True)
        ]

    def seconds(self, window: PlannedWindow) -> float:
        """Expected seconds of a window."""
        return FUSE.seconds(len(window.images), self._bytes_of(window) // len(window.images))

    def estimate(self, windows: Sequence[PlannedWindow]) -> Estimate:
        """The expected cost of windows."""
        return Estimate(
            tiles=len(windows),
            dates=sum(len(window.images) for window in windows),
            bytes_read=sum(map(self._bytes_of, windows)),
            core_seconds=sum(map(self.seconds, windows)),
            memory_bytes=FUSE.memory(self._tile_pixels, max(self._tiles) * len(self._tiles), self._tile_pixels),
        )

    def _bytes_of(self, window: PlannedWindow) -> int:
        return sum(self._mask_bytes[image.member] for image in window.images)


def _why_nothing(windows: int) -> str:
    if not windows:
        return "the members have no images"
    return f"all {windows} windows are already fused with these settings"
