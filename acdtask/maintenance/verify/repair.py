"""How to make damaged files again, and taking damaged products out of the index so that their jobs make them again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Dataset
from acdtask.jobs.parts import month_of
from acdtask.maintenance.verify.check import Fault
from acdtask.maintenance.verify.files import product_folder
from acdtask.storage.store import Store

__all__ = ["Repair", "forget_products", "repair_of"]

MONTH_TABLE = re.compile(r"patches/(\d{4}-\d\d)-[0-9a-f]+\.parquet")
JOBS = ("consolidate", "baseline", "monitor")


@dataclass(frozen=True)
class Repair:
    """How to make a file again.

    Attributes:
        advice: a sentence.
        command: the command that makes it, with its variable parts in capitals; empty if nothing does.
        after_forget: whether `acdtask verify --forget` has to come first.
    """

    advice: str
    command: str = ""
    after_forget: bool = False


def repair_of(fault: Fault, cube: LocalCube) -> Repair:
    """How to make a damaged file again."""
    file, dataset, address = fault.file, fault.file.dataset, cube.store.url
    if file.kind == "image" and dataset is not None:
        return Repair(
            "It is written again from its source; give the source and the options that it was ingested with",
            f"acdtask ingest local --cube {address} --source SOURCE --variable {dataset.variable} "
            f"--instance {dataset.instance} --on-known verify",
        )
    if file.kind == "consolidated" and dataset is not None and _has_sources(cube, file.key):
        return Repair(
            "It is made again from the images of its records, once the index has forgotten it",
            f"acdtask consolidate local --cube {address} --aoi AOI --layout {dataset.layout} "
            f"--variable {dataset.variable} --instance {dataset.instance}",
            after_forget=True,
        )
    if file.kind in ("baseline", "monitor"):
        return Repair(
            f"It is made again by the {file.kind} job, once the index has forgotten its product",
            _job_command(file.kind, product_folder(file.key), cube.store),
            after_forget=True,
        )
    return Repair("acd cannot make it again; restore it from a copy")


def forget_products(faults: Iterable[Fault], cube: LocalCube) -> list[str]:
    """Take damaged products and containers out of the index, and forget the runs that made them.

    No pixels are deleted: manifests go on naming a damaged product, and reading it stays an error, until its job has
    written it again under the same keys. Images stay, since `acdtask ingest local --on-known verify` repairs them.

    Returns:
        The keys of the damaged files whose jobs will make them again.
    """
    chosen = [fault for fault in faults if repair_of(fault, cube).after_forget]
    if not chosen:
        return []
    datasets = _datasets_of(chosen, cube)
    records = {dataset.record_id for dataset in datasets if product_folder(dataset.uri)}
    cube.remove(records=records, datasets=datasets)
    _forget_runs([_made_thing(fault, cube) for fault in chosen], cube.store)
    return [fault.file.key for fault in chosen]


def _has_sources(cube: LocalCube, key: str) -> bool:
    """Whether each record in a container still has an image of its own."""
    datasets = cube.datasets_at([key])
    for variable, instance in {(dataset.variable, dataset.instance) for dataset in datasets}:
        wanted = frozenset(dataset.record_id for dataset in datasets)
        others = cube.datasets(variable, instance, wanted)
        if wanted - {dataset.record_id for dataset in others if not dataset.layout}:
            return False
    return bool(datasets)


def _datasets_of(faults: Sequence[Fault], cube: LocalCube) -> list[Dataset]:
    """The datasets to take out: those of the containers, and all those of the records of products."""
    datasets = set(cube.datasets_at([f.file.key for f in faults if f.file.kind == "consolidated"]))
    products = frozenset(_product_of(fault, cube) for fault in faults if fault.file.kind != "consolidated")
    folders = tuple(f"{product}/" for product in products)
    for variable in cube.variables() if folders else ():
        for instance in cube.instances(variable.name):
            datasets.update(d for d in cube.datasets(variable.name, instance.name) if d.uri.startswith(folders))
    return sorted(datasets, key=lambda dataset: (dataset.uri, dataset.subdir, dataset.record_id))


def _product_of(fault: Fault, cube: LocalCube) -> str:
    """The folder of what a record stands for: a baseline, or a monitored image."""
    folder, key = product_folder(fault.file.key), fault.file.key
    if fault.file.kind == "baseline":
        return folder
    table = MONTH_TABLE.fullmatch(key.removeprefix(f"{folder}/"))
    return _image_of_month(folder, table[1], cube) if table else _image_folder(folder, key)


def _image_folder(folder: str, key: str) -> str:
    return f"{folder}/{key.removeprefix(folder).strip('/').partition('/')[0]}"


def _image_of_month(folder: str, month: str, cube: LocalCube) -> str:
    """An image of a month: the job that makes it again writes the table of its month. Else the result itself."""
    for variable in cube.variables():
        for instance in cube.instances(variable.name):
            keys = {d.record_id: d.uri for d in cube.datasets(variable.name, instance.name) if d.uri.startswith(folder)}
            for record in cube.records_by_id(sorted(keys)):
                if month_of(record.datetime) == month:
                    return _image_folder(folder, keys[record.id])
    return folder


def _made_thing(fault: Fault, cube: LocalCube) -> str:
    """What the plan that made a file says of it: the container's key, the baseline's id or the image's folder."""
    if fault.file.kind == "consolidated":
        return fault.file.key
    product = _product_of(fault, cube)
    return product.rpartition("/")[2] if fault.file.kind == "baseline" else product


def _forget_runs(things: Sequence[str], store: Store) -> None:
    """Delete the runs that made these things: a shard with a marker would not be done again."""
    runs = store.within("runs")
    for job in JOBS:
        plans = sorted(key for key in runs.list(job) if key.count("/") == 2 and key.endswith("/plan.json"))
        for key in plans:
            body = runs.find(key)
            if body is not None and any(f'"{thing}"' in body.decode(errors="replace") for thing in things):
                _delete_folder(runs, key.rpartition("/")[0])


def _delete_folder(runs: Store, folder: str) -> None:
    """Delete a plan's folder, its markers before the plan itself, so that what is left can be forgotten again."""
    keys = runs.list(folder)
    for key in sorted(keys, key=lambda key: key == f"{folder}/plan.json"):
        runs.delete(key)


def _job_command(job: str, folder: str, store: Store) -> str:
    """The command that made a product, from its newest manifest."""
    keys = store.list(f"{folder}/manifests")
    manifest: dict[str, Any] = json.loads(store.get(keys[-1])) if keys else {}
    settings = manifest.get("settings", {})
    given = [
        f"--{name.replace('_', '-')} {settings[name]}"
        for name in ("layout", "variable", "instance", "name", "start", "end", "profile")
        if settings.get(name)
    ]
    return " ".join([f"acdtask {job} local --cube {store.url} --aoi AOI", *given])
