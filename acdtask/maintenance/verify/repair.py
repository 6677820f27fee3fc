"""Advice for recreating damaged files, and removal of damaged products from the index to make jobs recreate them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Dataset
from acdtask.jobs.fuse.publish import forget_months, newest_fusion
from acdtask.jobs.parts import month_of
from acdtask.maintenance.verify.check import Fault
from acdtask.maintenance.verify.files import product_folder
from acdtask.storage.store import Store

__all__ = ["Repair", "forget_products", "repair_of"]

MONTH_TABLE = re.compile(r"patches/(\d{4}-\d\d)-[0-9a-f]+\.parquet")
JOBS = ("consolidate", "baseline", "monitor", "fuse")


@dataclass(frozen=True)
class Repair:
    """How to recreate a file.

    Attributes:
        advice: a sentence.
        command: the command that recreates it, with placeholders in capitals; empty if there is none.
        after_forget: whether `acdtask verify --forget` must be run first.
    """

    advice: str
    command: str = ""
    after_forget: bool = False


def repair_of(fault: Fault, cube: LocalCube) -> Repair:
    """Advise how to recreate a damaged file."""
    file, dataset, address = fault.file, fault.file.dataset, cube.store.url
    if file.kind == "image" and dataset is not None:
        return Repair(
            "Ingest it again from its source, with the options that it was ingested with",
            f"acdtask ingest local --cube {address} --source SOURCE --variable {dataset.variable} "
            f"--instance {dataset.instance} --on-known verify",
        )
    if file.kind == "consolidated" and dataset is not None and _has_sources(cube, file.key):
        return Repair(
            "Consolidate its records again, once the index has forgotten it",
            f"acdtask consolidate local --cube {address} --aoi AOI --layout {dataset.layout} "
            f"--variable {dataset.variable} --instance {dataset.instance}",
            after_forget=True,
        )
    if file.kind in ("baseline", "monitor"):
        return Repair(
            f"Run the {file.kind} job again, once the index has forgotten its product",
            _job_command(file.kind, product_folder(file.key), cube.store),
            after_forget=True,
        )
    if file.kind == "fuse":
        return Repair(
            "Run the fuse job again, once the result has forgotten the months of the damaged files",
            _fuse_command(product_folder(file.key), cube.store),
            after_forget=True,
        )
    return Repair("acd cannot recreate it; restore it from a backup")


def forget_products(faults: Iterable[Fault], cube: LocalCube) -> list[str]:
    """Remove damaged products and containers from the index, and delete the runs that made them.

    No pixels are deleted. Manifests still name a damaged product, and reading it remains an error, until its job has
    written it again under the same keys. A fusion is not in the index: its newest manifest loses the months of damaged
    files. Images are kept, since `acdtask ingest local --on-known verify` repairs them.

    Returns:
        The keys of the damaged files that their jobs will recreate.
    """
    chosen = [fault for fault in faults if repair_of(fault, cube).after_forget]
    if not chosen:
        return []
    datasets = _datasets_of(chosen, cube)
    records = {dataset.record_id for dataset in datasets if product_folder(dataset.uri)}
    cube.remove(records=records, datasets=datasets)
    _forget_fused(chosen, cube.store)
    _forget_runs([_plan_text_of(fault, cube) for fault in chosen], cube.store)
    return [fault.file.key for fault in chosen]


def _has_sources(cube: LocalCube, key: str) -> bool:
    """Whether each record in a container still has its own image."""
    datasets = cube.datasets_at([key])
    for variable, instance in {(dataset.variable, dataset.instance) for dataset in datasets}:
        wanted = frozenset(dataset.record_id for dataset in datasets)
        others = cube.datasets(variable, instance, wanted)
        if wanted - {dataset.record_id for dataset in others if not dataset.layout}:
            return False
    return bool(datasets)


def _datasets_of(faults: Sequence[Fault], cube: LocalCube) -> list[Dataset]:
    """The datasets to remove: those in the containers, and all of the products' records."""
    datasets = set(cube.datasets_at([f.file.key for f in faults if f.file.kind == "consolidated"]))
    products = frozenset(
        _product_of(fault, cube) for fault in faults if fault.file.kind not in ("consolidated", "fuse")
    )
    folders = tuple(f"{product}/" for product in products)
    for variable in cube.variables() if folders else ():
        for instance in cube.instances(variable.name):
            datasets.update(d for d in cube.datasets(variable.name, instance.name) if d.uri.startswith(folders))
    return sorted(datasets, key=lambda dataset: (dataset.uri, dataset.subdir, dataset.record_id))


def _product_of(fault: Fault, cube: LocalCube) -> str:
    """The folder of the baseline or monitored image that a file belongs to."""
    folder, key = product_folder(fault.file.key), fault.file.key
    if fault.file.kind == "baseline":
        return folder
    table = MONTH_TABLE.fullmatch(key.removeprefix(f"{folder}/"))
    return _image_of_month(folder, table[1], cube) if table else _image_folder(folder, key)


def _image_folder(folder: str, key: str) -> str:
    return f"{folder}/{key.removeprefix(folder).strip('/').partition('/')[0]}"


def _image_of_month(folder: str, month: str, cube: LocalCube) -> str:
    """An image of a month, since recreating it rewrites the month's table; the result itself if there is none."""
    for variable in cube.variables():
        for instance in cube.instances(variable.name):
            keys = {d.record_id: d.uri for d in cube.datasets(variable.name, instance.name) if d.uri.startswith(folder)}
            for record in cube.records_by_id(sorted(keys)):
                if month_of(record.datetime) == month:
                    return _image_folder(folder, keys[record.id])
    return folder


def _plan_text_of(fault: Fault, cube: LocalCube) -> str:
    """Text by which a file's plan is found: the container's key, the baseline's or fusion's id, the image's folder."""
    if fault.file.kind == "consolidated":
        return fault.file.key
    if fault.file.kind == "fuse":
        return product_folder(fault.file.key).rpartition("/")[2]
    product = _product_of(fault, cube)
    return product.rpartition("/")[2] if fault.file.kind == "baseline" else product


def _forget_fused(faults: Sequence[Fault], store: Store) -> None:
    """Leave the months of damaged files out of the manifests of their fusions."""
    keys: dict[str, list[str]] = {}
    for fault in faults:
        if fault.file.kind == "fuse":
            keys.setdefault(product_folder(fault.file.key), []).append(fault.file.key)
    for folder, damaged in keys.items():
        aoi, _, fusion = folder.removeprefix("products/").rsplit("/", 2)
        forget_months(store, aoi, fusion, damaged)


def _forget_runs(products: Sequence[str], store: Store) -> None:
    """Delete the runs that made these products, since shards with a marker would be skipped."""
    runs = store.within("runs")
    for job in JOBS:
        plans = sorted(key for key in runs.list(job) if key.count("/") == 2 and key.endswith("/plan.json"))
        for key in plans:
            body = runs.find(key)
            if body is not None and any(f'"{product}"' in body.decode(errors="replace") for product in products):
                _delete_folder(runs, key.rpartition("/")[0])


def _delete_folder(runs: Store, folder: str) -> None:
    """Delete a plan's folder, the plan itself last, so that an interrupted deletion can be repeated."""
    keys = runs.list(folder)
    for key in sorted(keys, key=lambda key: key == f"{folder}/plan.json"):
        runs.delete(key)


def _fuse_command(folder: str, store: Store) -> str:
    """The command that made a fusion, from its newest manifest."""
    aoi, _, fusion = folder.removeprefix("products/").rsplit("/", 2)
    manifest = newest_fusion(store, aoi, fusion)
    if manifest is None:
        return ""
    given = [
        *(f"--members {member.name}" for member in manifest.members),
        f"--name {manifest.name}",
        *(f"--{name.replace('_', '-')} {value}" for name, value in manifest.settings.items()),
    ]
    return " ".join([f"acdtask fuse local --cube {store.url} --aoi AOI", *given])


def _job_command(job: str, folder: str, store: Store) -> str:
    """The command that made a product, from its newest manifest."""
    keys = store.list(f"{folder}/manifests")
    manifest: dict[str, Any] = json.loads(store.get(keys[-1])) if keys else {}
    settings = manifest.get("settings", {})
    given = [
        f"--{name.replace('_', '-')} {settings[name]}"
        for name in ("layout", "variable", "instance", "name", "start", "end", "profile", "clip")
        if settings.get(name)
    ]
    return " ".join([f"acdtask {job} local --cube {store.url} --aoi AOI", *given])
