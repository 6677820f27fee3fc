"""Results have not changed since golden.json was written, unless the job's ALGORITHM was raised.

Content ids are made with ALGORITHM and not with the version of acd. If results change and the number does not, old and
new results get the same id, so raise it with the change, then write the file anew:

    python -m tests.jobs.test_golden
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from acdtask.cube.model import Slice
from acdtask.engine.stages import open_site
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.monitor.months import patches_of_image, read_images
from acdtask.jobs.products import MonitorManifest
from acdtask.jobs.registry import load_job
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.storage.store import Store
from tests.jobs.chain import simulate
from tests.jobs.small_site import LAYOUT, baseline, ends, make_cube, monitor, run, steady

GOLDEN = Path(__file__).with_name("golden.json")
JOBS = ("simulate", "ingest", "consolidate", "baseline", "monitor", "report")
REFERENCE, MONITORED = 21, 2
SCENE = SceneSettings(size=64, reference_pairs=3, monitored_pairs=1, events=2, seed=5)


def made(folder: Path) -> dict[str, str]:
    """A digest of what each job makes of the same input: pixels and tables, whatever codec they are stored with."""
    cube = make_cube(folder, REFERENCE + MONITORED, steady(REFERENCE), cell=32)
    aoi = str(folder / "aoi.json")
    run(ConsolidateJob(), ConsolidateSettings(aoi=aoi, layout=LAYOUT), cube)
    baseline(cube, end=ends(REFERENCE - 1))
    monitor(cube)
    run(ReportJob(), ReportSettings(aoi=aoi, layout=LAYOUT), cube)
    scene = simulate(folder / "scene", SCENE)
    truth = json.loads((scene / "truth.geojson").read_text())
    products = cube / "products/site"
    return {
        "simulate": digest([*rasters(scene / "images"), truth]),
        "ingest": digest(rasters(cube / "data")),
        "consolidate": digest(copies(cube)),
        "baseline": digest(rasters(products / "baseline")),
        "monitor": digest([*rasters(products / "monitor"), *patches(cube)]),
        "report": digest(pictures(products / "report")),
    }


def rasters(folder: Path) -> Iterator[Any]:
    """The pixels of the GeoTIFFs below a folder, in the order of their names."""
    for path in sorted(folder.rglob("*.tif"), key=lambda path: path.name):
        with rasterio.open(path) as raster:
            yield raster.read()


def copies(cube: Path) -> Iterator[Any]:
    """The pixels of the consolidated images."""
    opened = open_site(str(cube)).cube
    variable = opened.variable("CoherenceVV")
    datasets = [dataset for dataset in opened.datasets("CoherenceVV", "master") if dataset.is_copy]
    labels = {record: number for number, record in enumerate(dict.fromkeys(dataset.record_id for dataset in datasets))}
    for dataset in sorted(datasets, key=lambda copy: (labels[copy.record_id], copy.cell)):
        yield opened.read(dataset.grid, [Slice(label="", datasets=(dataset,))], variable)


def patches(cube: Path) -> Iterator[Any]:
    """The patches of all images."""
    store = Store.at(str(cube))
    (manifest,) = cube.glob("products/site/monitor/*/manifests/000001.json")
    for product in read_images(MonitorManifest.model_validate_json(manifest.read_bytes()), store):
        for patch in patches_of_image(product, store):
            yield [patch.properties, patch.geometry.wkb_hex]


def pictures(folder: Path) -> Iterator[Any]:
    """The pixels of the pictures of dates and of the baseline."""
    for path in sorted(folder.rglob("*.png"), key=lambda path: (path.name, path.parent.name)):
        if path.name in ("image.png", "z.png", "patches.png", "mean.png", "std.png"):
            with rasterio.open(path) as raster:
                yield raster.read()


def digest(parts: Any) -> str:
    """The SHA-256 of arrays and JSON values, in order."""
    whole, count = hashlib.sha256(), 0
    for part in parts:
        count += 1
        if isinstance(part, np.ndarray):
            whole.update(f"{part.dtype.str}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        else:
            whole.update(json.dumps(part, sort_keys=True).encode())
    assert count > 1, "a digest of nothing holds nothing"
    return whole.hexdigest()


def algorithms() -> dict[str, int]:
    return {name: load_job(name).algorithm for name in JOBS}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(tmp_path_factory.mktemp("golden"))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("job", JOBS)
def test_results_change_only_with_the_algorithm(job: str, results: dict[str, str]) -> None:
    golden = json.loads(GOLDEN.read_text())[job]
    algorithm = algorithms()[job]
    how = "python -m tests.jobs.test_golden"
    if results[job] != golden["digest"]:
        assert algorithm > golden["algorithm"], f"{job}: raise ALGORITHM from {algorithm}, then: {how}"
    assert (algorithm, results[job]) == (golden["algorithm"], golden["digest"]), f"write golden.json anew: {how}"


def test_the_digest_holds_every_part(results: dict[str, str]) -> None:
    """A pixel, a type or a number that differs shows."""
    zeros = np.zeros((2, 2), np.int16)
    other = zeros.copy()
    other[1, 1] = 1
    kinds = [[zeros, zeros], [zeros, other], [zeros, zeros.astype(np.uint16)], [zeros, {"z": 1}], [zeros, {"z": 2}]]
    assert len({digest(parts) for parts in kinds}) == len(kinds)
    assert len(set(results.values())) == len(JOBS)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        digests = made(Path(scratch))
    document = {job: {"algorithm": number, "digest": digests[job]} for job, number in algorithms().items()}
    GOLDEN.write_text(json.dumps(document, indent=1) + "\n")
