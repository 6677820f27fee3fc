"""Documents that rot: a flipped bit in any of them is noticed or harmless, and the advice of each error works."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import RecordQuery
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.rounds import RoundState, find_gathering
from acdtask.engine.stages import gather_round, load_plan, load_shard, make_plan, missing_shards, open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.contract import Plan
from acdtask.jobs.fence import Fence
from acdtask.jobs.manifests import find_manifest
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.report.job import ReportJob, ReportSettings
from tests.jobs.chain import LAYOUT, Chain, digests, reference_end, run_chain, simulate

FLIPS = 200
NAME = f"CoherenceVV/{LAYOUT}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def finished(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube with a baseline, a monitoring result and a report; not to be changed."""
    cube = tmp_path_factory.mktemp("finished") / "cube"
    with WorkerPool(0) as pool:
        run_chain(scene, str(cube), pool, Chain(cell=80, consolidate=False, shard_tiles=2))
    return cube


@pytest.fixture
def cube(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "cube"))


def monitor(scene: Path, cube: Path) -> Plan[Any, Any]:
    settings = MonitorSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, shard_tiles=2)
    with WorkerPool(0) as pool:
        return run_locally(MonitorJob(), settings, str(cube), pool=pool, progress=False).plan


def baseline(scene: Path, cube: Path) -> Plan[Any, Any]:
    settings = BaselineSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, shard_tiles=2, end=reference_end())
    with WorkerPool(0) as pool:
        return run_locally(BaselineJob(), settings, str(cube), pool=pool, progress=False).plan


def report(scene: Path, cube: Path) -> Plan[Any, Any]:
    settings = ReportSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, truth=str(scene / "truth.geojson"))
    with WorkerPool(0) as pool:
        return run_locally(ReportJob(), settings, str(cube), pool=pool, progress=False).plan


def plan_of(cube: Path) -> Plan[Any, Any]:
    (folder,) = (cube / "runs/monitor").iterdir()
    return load_plan(MonitorJob(), folder.name, open_site(str(cube)))


def read_index(cube: Path) -> Any:
    opened = LocalCube.open(str(cube))
    datasets = opened.datasets("CoherenceVV", "master")
    return repr([opened.records(RecordQuery()), datasets, opened.variables(), opened.layouts()])  # nodata may be NaN


def read_manifest(job: str, name: str, missing: ErrorCode) -> Callable[[Path], Any]:
    def read(cube: Path) -> Any:
        return find_manifest(open_site(str(cube)).store, "koln-demo", job, f"{NAME}/{name}", "latest", missing)

    return read


def read_tables(cube: Path) -> Any:
    """What a gather does first: the markers, then the tables."""
    plan, site = plan_of(cube), open_site(str(cube))
    round_ = RoundState.find(plan, "statistics", site)
    assert round_ is not None
    if missing := round_.missing():
        return f"shards {missing} are not done"
    return list(round_.tables(round_.digests(round_.markers([]), {}), []))


def read_handouts(cube: Path) -> Any:
    plan, site = plan_of(cube), open_site(str(cube))
    round_ = RoundState.find(plan, "cut", site)
    if round_ is None:
        return "round label is not gathered"
    return [round_.handout(index) for index in range(plan.shards)], round_.memo()


def read_gathering(cube: Path) -> Any:
    return find_gathering(plan_of(cube), "cut", open_site(str(cube))) or "not gathered"


def read_scratch_blob(cube: Path) -> Any:
    from acdtask.jobs.codec import read_scratch
    from acdtask.jobs.monitor.label import TileLabels

    scratch = open_site(str(cube)).scratch(plan_of(cube))
    return [read_scratch(scratch, key, TileLabels).labels.tobytes() for key in scratch.list("labels")]


def read_shards(cube: Path) -> Any:
    plan = plan_of(cube)
    return repr([load_shard(MonitorJob(), plan, index, open_site(str(cube))) for index in range(plan.shards)])


def read_findings(cube: Path) -> Any:
    return MonitorJob().findings(plan_of(cube), open_site(str(cube)))


def read_announcements(cube: Path) -> Any:
    """As a pod of an older plan asks whether a newer one has overtaken it."""
    (folder,) = (cube / "runs/published/koln-demo/monitor").glob("*/manifests")
    place = folder.relative_to(cube / "runs/published").as_posix()
    (announced,) = folder.iterdir()
    holds = {"2018-01-01_2018-01-07": "another image"}
    return Fence(open_site(str(cube)).runs, 0).is_overtaken(place, holds), bool(announced)


@dataclass(frozen=True)
class Kind:
    """A kind of file, and what a job or command reads of it."""

    pattern: str
    read: Callable[[Path], Any]
    codes: frozenset[ErrorCode]

    def __str__(self) -> str:
        return self.pattern


def kind(pattern: str, read: Callable[[Path], Any], *codes: ErrorCode) -> Kind:
    return Kind(pattern, read, frozenset(codes))


MONITORED = read_manifest("monitor", "monitor", ErrorCode.MONITOR_UNKNOWN)
BASELINE = read_manifest("baseline", "annual", ErrorCode.BASELINE_UNKNOWN)
CUBE, PRODUCT, RUN = ErrorCode.CUBE_DAMAGED, ErrorCode.PRODUCT_DAMAGED, ErrorCode.RUN_DAMAGED
KINDS = [
    kind("cube.json", read_index, CUBE),
    kind("index/heads/*", read_index, CUBE),
    kind("index/hint", read_index),
    kind("index/records/*", read_index, CUBE),
    kind("index/datasets/*", read_index, CUBE),
    kind("products/*/monitor/*/manifests/*", MONITORED, PRODUCT),
    kind("products/*/monitor/**/*.latest/*", MONITORED, PRODUCT),
    kind("products/*/baseline/*/manifests/*", BASELINE, PRODUCT),
    kind("products/*/baseline/**/*.latest/*", BASELINE, PRODUCT),
    kind("products/*/monitor/*/*/patches.parquet", read_findings, PRODUCT),
    kind("runs/monitor/*/plan.json", plan_of, RUN),
    kind("runs/monitor/*/shards/*", read_shards, RUN),
    kind("runs/monitor/*/statistics/*.json", read_tables),
    kind("runs/monitor/*/statistics/*.table", read_tables, ErrorCode.SHARDS_MISSING),
    kind("runs/monitor/*/cut/handouts/*", read_handouts, RUN),
    kind("runs/monitor/*/cut/gathered/*/*", read_gathering),
    kind("runs/monitor/*/scratch/labels/*/*", read_scratch_blob, RUN),
    kind("runs/published/*/monitor/*/manifests/*", read_announcements, RUN),
]
MADE_AGAIN = {
    "runs/monitor/*/statistics/*.json": "not done",
    "runs/monitor/*/cut/gathered/*/*": "not gathered",
}
"""What is simply done again when it is damaged, and what its reader then says."""


def in_use(cube: Path, pattern: str) -> Path:
    """The last file of a kind; of the index' segments, one that the newest head names."""
    paths = sorted(cube.glob(pattern))
    if pattern in ("index/records/*", "index/datasets/*"):
        head = max(cube.glob("index/heads/*")).read_text()
        paths = [path for path in paths if path.name in head]
    return paths[-1]


def outcome_of(kind: Kind, cube: Path) -> Any:
    """What is read, or the error."""
    try:
        return kind.read(cube)
    except AcdError as error:
        return error


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_flipped_bit_in_a_document_is_noticed_or_harmless(kind: Kind, cube: Path) -> None:
    path = in_use(cube, kind.pattern)
    original, expected = path.read_bytes(), kind.read(cube)
    markers = {file: file.read_bytes() for file in cube.glob("runs/monitor/*/statistics/*.json")}
    rng = np.random.default_rng(20)
    noticed = 0
    for bit in rng.integers(0, len(original) * 8, FLIPS).tolist():
        flipped = bytearray(original)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        outcome = outcome_of(kind, cube)
        if isinstance(outcome, AcdError):
            assert outcome.code in kind.codes, f"bit {bit}: {outcome}"
            assert path.name in outcome.detail or path.stem in outcome.detail, str(outcome)
            noticed += 1
        elif kind.pattern in MADE_AGAIN and isinstance(outcome, str):
            assert MADE_AGAIN[kind.pattern] in outcome
            noticed += 1
        else:
            assert outcome == expected, f"bit {bit} changed what is read, silently"
        for file, content in markers.items():
            file.write_bytes(content)
    path.write_bytes(original)
    assert kind.read(cube) == expected
    assert noticed == FLIPS or kind.pattern == "index/hint"  # from any stored head the way leads to the newest


def rot(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def take_advice(error: AcdError) -> None:
    """Delete the folder that the error's fix names."""
    advised = re.search(r"[Dd]elete the folder (\S+) and (?:re)?run", error.fix)
    assert advised, error.fix
    shutil.rmtree(advised[1])


def newest(cube: Path, pattern: str) -> Path:
    return max(cube.glob(pattern))


@pytest.mark.parametrize("pattern", ["index/heads/*", "index/records/*"])
def test_the_index_is_back_after_its_newest_heads_are_deleted(scene: Path, cube: Path, pattern: str) -> None:
    before, records = digests(cube), read_index(cube)
    head = newest(cube, "index/heads/*")
    segments = LocalCube.open(str(cube)).head().records  # which one is the newest only the head says
    path = head if "heads" in pattern else cube / segments[-1].key
    rot(path)
    with pytest.raises(AcdError, match=path.name) as caught:
        monitor(scene, cube)
    assert caught.value.code is ErrorCode.CUBE_DAMAGED
    assert "delete the newest files in index/heads" in caught.value.fix
    newest(cube, "index/heads/*").unlink()
    monitor(scene, cube)
    assert read_index(cube) == records
    assert digests(cube) == before


@pytest.mark.parametrize("keeps_runs", [True, False])
@pytest.mark.parametrize(
    ("pattern", "write", "read"),
    [
        ("products/*/monitor/*/manifests/*", monitor, report),
        ("products/*/monitor/**/*.latest/*", monitor, report),
        ("products/*/baseline/*/manifests/*", baseline, monitor),
        ("products/*/baseline/**/*.latest/*", baseline, monitor),
        ("products/*/monitor/*/*/patches.parquet", monitor, None),
    ],
)
def test_a_damaged_product_is_made_again_as_the_error_says(
    scene: Path,
    cube: Path,
    pattern: str,
    write: Callable[[Path, Path], Plan[Any, Any]],
    read: Callable[[Path, Path], Plan[Any, Any]] | None,
    keeps_runs: bool,
) -> None:
    before = digests(cube)
    path = newest(cube, pattern)
    rot(path)
    with pytest.raises(AcdError, match=re.escape(str(path))) as caught:
        read(scene, cube) if read else read_findings(cube)
    assert caught.value.code is ErrorCode.PRODUCT_DAMAGED
    if not keeps_runs:
        shutil.rmtree(cube / "runs")
    take_advice(caught.value)
    write(scene, cube)
    assert digests(cube) == before
    assert "already" in monitor(scene, cube).nothing_to_do


@pytest.mark.parametrize("pattern", ["shards/0001.json", "cut/handouts/0000-*", "scratch/labels/*/*"])
def test_a_damaged_run_is_done_anew_as_the_error_says(scene: Path, cube: Path, pattern: str) -> None:
    before = digests(cube)
    shutil.rmtree(newest(cube, "products/*/monitor/*/manifests"))
    for gathered in (cube / "runs/monitor").glob("*/cut/gathered"):
        shutil.rmtree(gathered)
    for marker in (cube / "runs/monitor").glob("*/cut/*.json"):
        marker.unlink()
    path = newest(cube, f"runs/monitor/*/{pattern}")
    rot(path)
    with pytest.raises(AcdError, match=path.name) as caught:
        monitor(scene, cube)
    assert caught.value.code is ErrorCode.RUN_DAMAGED
    take_advice(caught.value)
    monitor(scene, cube)
    assert digests(cube) == before


@pytest.mark.parametrize("pattern", ["plan.json", "cut/*.json", "cut/gathered/*/*"])
def test_a_damaged_plan_or_marker_is_made_again_without_a_word_of_advice(scene: Path, cube: Path, pattern: str) -> None:
    before = digests(cube)
    shutil.rmtree(newest(cube, "products/*/monitor/*/manifests"))
    rot(newest(cube, f"runs/monitor/*/{pattern}"))
    monitor(scene, cube)
    assert digests(cube) == before
    assert plan_of(cube).job == "monitor"


def test_a_shard_whose_table_is_damaged_is_done_again_by_the_next_run(scene: Path, cube: Path) -> None:
    before = digests(cube)
    shutil.rmtree(newest(cube, "products/*/monitor/*/manifests"))
    plan, site = plan_of(cube), open_site(str(cube))
    rot(newest(cube, "runs/monitor/*/cut/*.table"))
    with pytest.raises(AcdError, match=r"\.table is damaged") as caught:
        monitor(scene, cube)
    assert caught.value.code is ErrorCode.SHARDS_MISSING
    assert len(missing_shards(plan, "cut", site)) == 1
    monitor(scene, cube)
    assert digests(cube) == before
    assert gather_round(MonitorJob(), plan, "cut", site) == ()


def test_a_damaged_announcement_stops_the_older_plan_and_not_a_new_run(scene: Path, cube: Path) -> None:
    settings = MonitorSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, shard_tiles=2, end=reference_end())
    before = digests(cube)
    shutil.rmtree(newest(cube, "products/*/monitor/*/manifests"))
    rot(newest(cube, "runs/published/*/monitor/*/manifests/*"))
    place = newest(cube, "runs/published/*/monitor/*/manifests").relative_to(cube / "runs/published").as_posix()
    with pytest.raises(AcdError, match="00000001") as caught:
        Fence(open_site(str(cube)).runs, 0).require(place, {})
    assert caught.value.code is ErrorCode.RUN_DAMAGED
    assert make_plan(MonitorJob(), settings, open_site(str(cube))).nothing_to_do
    monitor(scene, cube)
    assert digests(cube) == before
