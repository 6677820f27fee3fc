"""Publication of a fusion: the tables of its months, and its manifest."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence

from acdtask import __version__
from acdtask.errors import ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.fuse.content import FuseContent, FusedMonth, FusedWindow, FusePlan, FusionManifest
from acdtask.jobs.fuse.files import FusedPatch, fused_to_geojson, fused_to_parquet, read_fused
from acdtask.jobs.manifests import find_manifest, manifest_chain, point_latest
from acdtask.jobs.parts import month_of, read_part, write_part
from acdtask.storage.store import Store

__all__ = ["findings_of_windows", "latest_fusion", "newest_fusion", "patch_files", "publish_fusion", "windows_of_plan"]


def newest_fusion(store: Store, aoi: str, fusion: str) -> FusionManifest | None:
    """The newest manifest of a fusion; None before its first publication. PRODUCT_DAMAGED."""
    _, body = manifest_chain(store, aoi, "fuse", fusion).newest()
    return FusionManifest.model_validate_json(body) if body else None


def latest_fusion(store: Store, aoi: str, name: str) -> FusionManifest:
    """The manifest of the latest fusion of a name. FUSION_UNKNOWN, PRODUCT_DAMAGED."""
    _, body = find_manifest(store, aoi, "fuse", name, "latest", ErrorCode.FUSION_UNKNOWN)
    return FusionManifest.model_validate_json(body)


def publish_fusion(plan: FusePlan, fused: Sequence[FusedWindow], site: Site) -> None:
    """Publish the windows of a plan in addition to those of earlier plans that still have the same images."""
    content, settings = plan.content, plan.settings
    chain, fence = manifest_chain(site.store, content.aoi, "fuse", content.fusion), site.fence(plan)
    chain.require(fence, content.windows)

    def make(earlier: bytes | None) -> bytes:
        known = FusionManifest.model_validate_json(earlier) if earlier else None
        windows = _joined(known.windows if known else [], fused, content)
        manifest = FusionManifest(
            content_id=content.fusion,
            aoi=content.aoi,
            name=settings.name,
            members=list(content.members),
            settings={"window_days": settings.window_days, "false_per_1000km2": settings.false_per_1000km2},
            version=__version__,
            windows=windows,
            months=_months(windows, known.months if known else [], content.folder, site.store),
        )
        if known and earlier and manifest.model_copy(update={"version": known.version}) == known:
            return earlier
        return manifest.model_dump_json(indent=1).encode()

    chain.publish(make, fence, content.windows)
    point_latest(site.store, content.aoi, "fuse", settings.name, content.fusion, fence)
    patches = [patch for patch in findings_of_windows(windows_of_plan(plan, site), site.store) if patch.kept]
    files = patch_files(plan)
    site.store.put(files["patches.parquet"], fused_to_parquet(patches))
    site.store.put(files["patches.geojson"], fused_to_geojson(patches))


def patch_files(plan: FusePlan) -> dict[str, str]:
    """Keys of the files with the patches of a plan's windows, by name. They live as long as the run."""
    return {name: f"runs/{plan.job}/{plan.plan_id}/{name}" for name in ("patches.parquet", "patches.geojson")}


def findings_of_windows(windows: Iterable[FusedWindow], store: Store) -> list[FusedPatch]:
    """The findings of windows, kept and held back. CUBE_DAMAGED."""
    return [patch for window in windows for patch in read_fused(read_part(store, window.table))]


def windows_of_plan(plan: FusePlan, site: Site) -> list[FusedWindow]:
    """The published windows of a plan. PRODUCT_DAMAGED."""
    manifest = newest_fusion(site.store, plan.content.aoi, plan.content.fusion)
    pending = set(plan.content.pending)
    return [window for window in manifest.windows if window.label in pending] if manifest else []


def _joined(known: Sequence[FusedWindow], fused: Sequence[FusedWindow], content: FuseContent) -> list[FusedWindow]:
    """The windows to publish: a window that no longer exists, since an image came in between, is dropped."""
    windows = {window.label: window for window in known if window.label in content.windows}
    windows |= {window.label: window for window in fused}
    return sorted(windows.values(), key=lambda window: (window.start, window.datetime, window.label))


def _months(windows: Sequence[FusedWindow], known: Sequence[FusedMonth], folder: str, store: Store) -> list[FusedMonth]:
    """The tables of each month. Those of months whose windows did not change are kept."""
    by_month: dict[str, list[FusedWindow]] = defaultdict(list)
    for window in windows:
        by_month[month_of(window.datetime)].append(window)
    kept = {(month.month, month.inputs): month for month in known}
    months = []
    for name, of_month in sorted(by_month.items()):
        inputs = hashlib.sha256(json.dumps([window.table for window in of_month]).encode()).hexdigest()[:12]
        months.append(kept.get((name, inputs)) or _written(name, inputs, of_month, folder, store))
    return months


def _written(name: str, inputs: str, windows: Sequence[FusedWindow], folder: str, store: Store) -> FusedMonth:
    findings = findings_of_windows(windows, store)
    patches = [patch for patch in findings if patch.kept]
    rejected = [patch for patch in findings if not patch.kept]
    stem = f"{folder}/patches/{name}"
    return FusedMonth(
        month=name,
        inputs=inputs,
        windows=len(windows),
        patches=len(patches),
        parquet=write_part(store, stem, ".parquet", fused_to_parquet(patches)),
        geojson=write_part(store, stem, ".geojson", fused_to_geojson(patches)),
        rejected=write_part(store, f"{folder}/rejected/{name}", ".parquet", fused_to_parquet(rejected)),
    )
