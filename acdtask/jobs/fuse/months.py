"""Reads and writes the months of a fusion: their windows, and tables of their findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.fuse.content import FusedMonth, FusedWindow, FusionManifest, MonthOfWindows
from acdtask.jobs.fuse.files import FusedPatch, fused_to_geojson, fused_to_parquet, read_fused
from acdtask.jobs.parts import month_of, read_part, write_part
from acdtask.storage.store import Store

__all__ = [
    "findings_of",
    "findings_of_windows",
    "joined_months",
    "keys_of",
    "keys_of_month",
    "parse_fusion",
    "read_windows",
    "windows_since",
]


def parse_fusion(body: bytes, store: Store) -> FusionManifest:
    """Read a manifest. PRODUCT_DAMAGED if it is not one that this version of acd reads."""
    try:
        return FusionManifest.model_validate_json(body)
    except ValidationError as error:
        raise AcdError(
            ErrorCode.PRODUCT_DAMAGED,
            f"a manifest of a fusion at {store.url} is not one that this version of acd reads",
            "Run 'acdtask fuse' again, and remove the older result below products/AOI/fuse.",
        ) from error


def read_windows(month: FusedMonth, store: Store) -> list[FusedWindow]:
    """The windows of a month, by time. PRODUCT_DAMAGED."""
    try:
        return MonthOfWindows.model_validate_json(read_part(store, month.document)).windows
    except ValidationError as error:
        raise _damaged(month.document, f"{store.address_of(month.document)} is not a valid month", store) from error
    except AcdError as error:
        if error.code is ErrorCode.CUBE_DAMAGED:
            raise _damaged(month.document, error.detail, store) from error
        raise


def windows_since(manifest: FusionManifest, month: str, store: Store) -> list[FusedWindow]:
    """The windows that end in a month, such as 2018-07, or later, by time. PRODUCT_DAMAGED."""
    return [window for each in manifest.months if each.month >= month for window in read_windows(each, store)]


def findings_of_windows(windows: Iterable[FusedWindow], store: Store) -> list[FusedPatch]:
    """The findings of windows, kept and held back. CUBE_DAMAGED."""
    return [patch for window in windows for patch in read_fused(read_part(store, window.table))]


def findings_of(months: Iterable[FusedMonth], store: Store, *, held_back: bool = False) -> list[FusedPatch]:
    """The patches of months, or what was held back, by window. CUBE_DAMAGED."""
    tables = [month.rejected if held_back else month.parquet for month in months]
    return [patch for table in tables for patch in read_fused(read_part(store, table))]


def joined_months(
    windows: Sequence[FusedWindow], known: Sequence[FusedMonth], since: str, folder: str, store: Store
) -> list[FusedMonth]:
    """The months before `since` as they are, and those of the windows, whose parts are written if they changed."""
    by_month: dict[str, list[FusedWindow]] = defaultdict(list)
    for window in windows:
        by_month[month_of(window.datetime)].append(window)
    months = [month for month in known if month.month < since]
    written = {month.document: month for month in known}
    for name, of_month in sorted(by_month.items()):
        body = MonthOfWindows(windows=of_month).model_dump_json().encode()
        document = write_part(store, f"{folder}/months/{name}", ".json", body)
        months.append(written.get(document) or _written(name, document, of_month, folder, store))
    return months


def keys_of(manifest: FusionManifest, store: Store) -> set[str]:
    """All files of the fusion that a manifest names, directly or through its months. PRODUCT_DAMAGED."""
    return {key for month in manifest.months for key in keys_of_month(month, store)}


def keys_of_month(month: FusedMonth, store: Store) -> set[str]:
    """All files of a month. PRODUCT_DAMAGED."""
    windows = {window.table for window in read_windows(month, store)}
    return {month.document, month.parquet, month.geojson, month.rejected} | windows


def _written(name: str, document: str, windows: Sequence[FusedWindow], folder: str, store: Store) -> FusedMonth:
    findings = findings_of_windows(windows, store)
    patches = [patch for patch in findings if patch.kept]
    rejected = [patch for patch in findings if not patch.kept]
    stem = f"{folder}/patches/{name}"
    return FusedMonth(
        month=name,
        windows=len(windows),
        patches=len(patches),
        held_back=len(rejected),
        changed_area_m2=round(sum(patch.area_m2 for patch in patches), 1),
        document=document,
        parquet=write_part(store, stem, ".parquet", fused_to_parquet(patches)),
        geojson=write_part(store, stem, ".geojson", fused_to_geojson(patches)),
        rejected=write_part(store, f"{folder}/rejected/{name}", ".parquet", fused_to_parquet(rejected)),
    )


def _damaged(key: str, detail: str, store: Store) -> AcdError:
    manifests = store.address_of("/".join([*key.split("/")[:4], "manifests"]))
    return AcdError(
        ErrorCode.PRODUCT_DAMAGED,
        detail,
        f"Restore it from a backup, or delete the folder {manifests} and run 'acdtask fuse' again: it fuses all windows"
        " again, with the same result.",
    )
