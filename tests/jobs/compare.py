"""What two cubes have in common, and images that make a job's work harder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rasterio
from rasterio.windows import Window

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import RecordQuery
from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.jobs.contract import Job, Settings
from tests.jobs.chain import digests

ALONE_HERE = ("manifests/", "/months/", "/editions/", "index/", "cube.json")
"""What says where pixels lie, or names such a file by its digest, and so is not the same."""


def products(cube: Path) -> dict[str, str]:
    """Files that must be the same whoever has the records."""
    return {name: one for name, one in digests(cube).items() if not any(part in name for part in ALONE_HERE)}


def counts(cube: Path) -> dict[str, int]:
    """How many records and datasets a cube has, and how often something was added."""
    opened = LocalCube.open(str(cube))
    datasets = [
        dataset
        for variable in opened.variables()
        for instance in opened.instances(variable.name)
        for dataset in opened.datasets(variable.name, instance.name)
    ]
    heads = len(list((cube / "index/heads").iterdir()))
    return {"records": len(opened.records(RecordQuery())), "datasets": len(datasets), "heads": heads}


def run(job: Job[Any, Any], settings: Settings, site: Path, pool: WorkerPool) -> LocalOutcome:
    return run_locally(job, settings, str(site), pool=pool, progress=False)


def halves(images: Path, folder: Path) -> None:
    """Each image as two frames that overlap, so that a date has two records."""
    folder.mkdir(exist_ok=True)
    for path in images.glob("*.tif"):
        with rasterio.open(path) as source:
            for frame, first, height in (("A", 0, 100), ("B", 80, 80)):
                window = Window(0, first, source.width, height)
                a, b, c, d, e, f = source.transform[:6]
                transform = rasterio.Affine(a, b, c, d, e, f + e * first)
                profile = {**source.profile, "height": height, "transform": transform}
                with rasterio.open(folder / f"{path.stem}_{frame}.tif", "w", **profile) as target:
                    target.write(source.read(window=window))
                    target.scales, target.offsets = source.scales, source.offsets
