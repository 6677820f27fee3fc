"""Publication of a fusion: its months, and its manifest."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from acdtask import __version__
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.fuse.content import FuseContent, FusedMonth, FusedWindow, FusePlan, FusionManifest, MemberMonths
from acdtask.jobs.fuse.files import fused_to_geojson, fused_to_parquet
from acdtask.jobs.fuse.months import findings_of_windows, joined_months, keys_of_month, parse_fusion, windows_since
from acdtask.jobs.fuse.news import add_news
from acdtask.jobs.fuse.settings import FuseSettings
from acdtask.jobs.manifests import find_manifest, manifest_chain, point_latest
from acdtask.jobs.parts import month_of
from acdtask.storage.store import Store

__all__ = [
    "forget_months",
    "latest_fusion",
    "newest_fusion",
    "next_manifest",
    "patch_files",
    "publish_fusion",
    "windows_of_plan",
]


def newest_fusion(store: Store, aoi: str, fusion: str) -> FusionManifest | None:
    """The newest manifest of a fusion; None before its first publication. PRODUCT_DAMAGED."""
    _, body = manifest_chain(store, aoi, "fuse", fusion).newest()
    return parse_fusion(body, store) if body else None


def latest_fusion(store: Store, aoi: str, name: str) -> FusionManifest:
    """The manifest of the latest fusion of a name. FUSION_UNKNOWN, PRODUCT_DAMAGED."""
    _, body = find_manifest(store, aoi, "fuse", name, "latest", ErrorCode.FUSION_UNKNOWN)
    return parse_fusion(body, store)


def publish_fusion(plan: FusePlan, fused: Sequence[FusedWindow], site: Site) -> None:
    """Publish the windows of a plan in addition to those of earlier plans that still have the same images."""
    content, settings, store = plan.content, plan.settings, site.store
    chain, fence = manifest_chain(store, content.aoi, "fuse", content.fusion), site.fence(plan)
    chain.require(fence, content.windows)

    def make(earlier: bytes | None) -> bytes:
        known = parse_fusion(earlier, store) if earlier else None
        manifest = next_manifest(known, fused, content, settings, store)
        if known and earlier and manifest.model_copy(update={"version": known.version}) == known:
            return earlier
        return manifest.model_dump_json(indent=1).encode()

    add_news(plan, fused, site)  # before, since windows in the manifest are done if this process ends now
    chain.publish(make, fence, content.windows)
    add_news(plan, windows_of_plan(plan, site), site)
    point_latest(store, content.aoi, "fuse", settings.name, content.fusion, fence)
    patches = [patch for patch in findings_of_windows(windows_of_plan(plan, site), store) if patch.kept]
    files = patch_files(plan)
    store.put(files["patches.parquet"], fused_to_parquet(patches))
    store.put(files["patches.geojson"], fused_to_geojson(patches))


def next_manifest(
    known: FusionManifest | None,
    fused: Sequence[FusedWindow],
    content: FuseContent,
    settings: FuseSettings,
    store: Store,
) -> FusionManifest:
    """The manifest that follows the newest one, if any, with the windows of a plan. PRODUCT_DAMAGED."""
    since = _first_month(content)
    windows = _joined(windows_since(known, since, store) if known else [], fused, content)
    return FusionManifest(
        content_id=content.fusion,
        aoi=content.aoi,
        name=settings.name,
        members=list(content.members),
        settings={"window_days": settings.window_days, "false_per_1000km2": settings.false_per_1000km2},
        version=__version__,
        sources=_sources(known.sources if known else [], windows, content),
        months=joined_months(windows, known.months if known else [], since, content.folder, store),
    )


def forget_months(store: Store, aoi: str, fusion: str, keys: Collection[str]) -> None:
    """Publish a version without the months that have a file of these keys, so that the next plan fuses them again.

    A month whose list of windows cannot be read is left out too. PRODUCT_DAMAGED, STORE_CONTENDED.
    """

    def make(newest: bytes | None) -> bytes:
        if newest is None:
            raise AcdError(ErrorCode.FUSION_UNKNOWN, f"{store.url} has no fusion {fusion}")
        manifest = parse_fusion(newest, store)
        months = [month for month in manifest.months if _is_intact(month, keys, store)]
        return manifest.model_copy(update={"sources": [], "months": months}).model_dump_json(indent=1).encode()

    manifest_chain(store, aoi, "fuse", fusion).amend(make)


def _is_intact(month: FusedMonth, keys: Collection[str], store: Store) -> bool:
    try:
        return keys_of_month(month, store).isdisjoint(keys)
    except AcdError as error:
        if error.code is not ErrorCode.PRODUCT_DAMAGED:
            raise
        return False


def patch_files(plan: FusePlan) -> dict[str, str]:
    """Keys of the files with the patches of a plan's windows, by name. They live as long as the run."""
    return {name: f"runs/{plan.job}/{plan.plan_id}/{name}" for name in ("patches.parquet", "patches.geojson")}


def windows_of_plan(plan: FusePlan, site: Site) -> list[FusedWindow]:
    """The published windows of a plan. PRODUCT_DAMAGED."""
    content = plan.content
    manifest = newest_fusion(site.store, content.aoi, content.fusion)
    pending = set(content.pending)
    windows = windows_since(manifest, _first_month(content), site.store) if manifest and pending else []
    return [window for window in windows if window.label in pending]


def _first_month(content: FuseContent) -> str:
    """The first month in which windows of a plan may end; empty if it has all."""
    return month_of(content.since) if content.since else ""


def _joined(known: Sequence[FusedWindow], fused: Sequence[FusedWindow], content: FuseContent) -> list[FusedWindow]:
    """The windows to publish: a window that no longer exists, since an image came in between, is dropped."""
    since = content.since
    windows = {
        window.label: window
        for window in known
        if (since is not None and window.start < since) or window.label in content.windows
    }
    windows |= {window.label: window for window in fused}
    return sorted(windows.values(), key=lambda window: (window.start, window.datetime, window.label))


def _sources(known: Sequence[MemberMonths], windows: Sequence[FusedWindow], content: FuseContent) -> list[MemberMonths]:
    """The images that are in the windows: those of the plan are added if none of its windows was left out."""
    if content.windows.items() - {(window.label, window.inputs) for window in windows}:
        return list(known)
    since = _first_month(content)
    return [*(source for source in known if source.month < since), *content.sources]
