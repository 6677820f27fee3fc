"""Verification of the cube's files with `--on-known verify`: repairs damaged files and reports them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from acdtask.cube.local.containers import read_window
from acdtask.cube.model import Dataset
from acdtask.errors import AcdError
from acdtask.jobs.contract import Site
from acdtask.jobs.fence import newest_number
from acdtask.jobs.ingest.content import IngestContent, IngestPlan
from acdtask.jobs.ingest.origins import has_instance
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.raster.checksums import checksum_of
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Window
from acdtask.storage.store import Store

__all__ = [
    "State",
    "finish_verification",
    "known_checksums",
    "repaired_files",
    "state_of",
    "store_repaired",
    "verification_number",
]

State = Literal["new", "same", "intact", "unchecked", "damaged", "missing", "replaced"]
"""State of a file in the cube, compared with the file that its source gives now.

`intact` files have the same pixels in other bytes, written by another version of acd. `unchecked` files do too, but
had no checksum. `replaced` files have other pixels and are superseded by the new file.
"""

REPAIRED = "repaired.json"


def state_of(store: Store, dataset: Dataset, data: bytes, pixels: Pixels, known: str | None) -> State:
    """The state of a file in the cube.

    `dataset`, `data` and `pixels`, of shape (height, width), are what the source gives now. `known` is the checksum in
    the index, empty if it has none; None if the cube does not have the record.
    """
    if known is None:
        return "new"
    stored = store.find_buffer(dataset.uri)
    if stored is None:
        return "missing"
    if stored == data:
        return "same"
    if known:
        return "intact" if checksum_of(stored) == known else "damaged"
    return "unchecked" if _has_pixels(store, dataset, pixels) else "damaged"


def verification_number(content: IngestContent, settings: IngestSettings, store: Store) -> int:
    """The number of the next verification of the same inputs, so that each verification is a new plan."""
    return newest_number(store.within(_counter_folder(content, settings))) + 1


def finish_verification(plan: IngestPlan, site: Site) -> None:
    """Count a verification as done, so that the next one of the same inputs is a new plan."""
    folder = _counter_folder(plan.content, plan.settings)
    site.runs.within(folder).create(f"{plan.content.verification:08d}", b"")


def store_repaired(states: Mapping[str, State], plan: IngestPlan, site: Site) -> None:
    """Store which files a plan repaired, by key."""
    repaired = {key: state for key, state in states.items() if state in ("damaged", "missing")}
    site.scratch(plan).put(REPAIRED, json.dumps(repaired, sort_keys=True).encode())


def repaired_files(plan: IngestPlan, site: Site) -> dict[str, str]:
    """The files that a plan repaired, each with its previous state: damaged or missing."""
    body = site.scratch(plan).find(REPAIRED)
    repaired: dict[str, str] = json.loads(body) if body else {}
    return repaired


def known_checksums(settings: IngestSettings, record_ids: Iterable[str], site: Site) -> dict[str, str]:
    """The indexed checksums of the records' own files, by record; a Geocube's index has none.

    Empty unless files are verified.
    """
    cube = site.find_cube() if settings.on_known == "verify" else None
    if cube is None or not has_instance(cube, settings.variable, settings.instance):
        return {}
    variable, wanted = settings.variable, frozenset(record_ids)
    if site.shared is not None:
        return dict.fromkeys(cube.having(variable, settings.instance, wanted), "")
    datasets = cube.datasets(variable, settings.instance, wanted)
    return {dataset.record_id: dataset.checksum for dataset in datasets if not dataset.layout}


def _has_pixels(store: Store, dataset: Dataset, pixels: Pixels) -> bool:
    """Whether a file has these pixels, read without its checksums."""
    whole = Window(row=0, column=0, height=dataset.grid.height, width=dataset.grid.width)
    try:
        (stored,) = read_window(store, dataset.uri, [(dataset.model_copy(update={"checksum": ""}), whole)])
    except AcdError:
        return False
    return bool(np.array_equal(stored[0], pixels, equal_nan=np.issubdtype(pixels.dtype, np.floating)))


def _counter_folder(content: IngestContent, settings: IngestSettings) -> str:
    digest = hashlib.sha256(json.dumps(content.to_verify(settings), sort_keys=True).encode()).hexdigest()[:16]
    return f"verified/{digest}"
