"""A damaged file on a cluster: the others are judged, the report names it, and it is ingested once it is whole."""

from __future__ import annotations

from pathlib import Path

from acdtask.engine.run_summary import JobRecord, records_of
from acdtask.jobs.contract import Site
from acdtask.jobs.simulate.settings import SceneSettings
from tests.cluster.conftest import NewPlace
from tests.cluster.scenes import monitor_of, parameters
from tests.cluster.test_small_work import done
from tests.cluster.tools import Place, Workflow
from tests.jobs.chain import simulate

SCENE = SceneSettings(size=64, reference_pairs=12, monitored_pairs=2, events=1, seed=16)


def test_a_damaged_file_does_not_stop_its_area(new_place: NewPlace, tmp_path: Path) -> None:
    scene = simulate(tmp_path / "scene", SCENE)
    images = sorted((scene / "images").iterdir())
    place = new_place("bad-file")
    place.put_images(images[:-1])
    damaged = tmp_path / "damaged" / images[-1].name
    damaged.parent.mkdir()
    damaged.write_bytes(images[-1].read_bytes()[:1000])
    place.put_images([damaged])
    place.install({"monitors": [monitor_of(scene)]}, tmp_path)
    given = parameters(place.inbox, SCENE)

    first = done(place, given)
    assert [text[:9] for text in unusable(place, first)] == ["ACD-201: "]
    assert judged(place, first) == 1
    (page,) = (key for key in place.store.list("products") if key.endswith("/index.html"))
    assert damaged.name in place.store.get(page).decode()

    place.put_images(images[-1:])
    second = done(place, given)
    assert unusable(place, second) == []
    assert judged(place, second) == 1
    assert damaged.name not in place.store.get(page).decode().partition('id="made"')[0]


def unusable(place: Place, workflow: Workflow) -> list[str]:
    """The files that the ingest of a workflow could not use."""
    return records(place, workflow)["ingest"].unusable


def judged(place: Place, workflow: Workflow) -> float:
    """The number of images that a workflow judged."""
    return records(place, workflow)["monitor"].findings.figures["images"]


def records(place: Place, workflow: Workflow) -> dict[str, JobRecord]:
    """The records of a workflow's jobs."""
    uid = place.get("workflow", workflow.name)["metadata"]["uid"]
    return {record.job: record for record in records_of(uid, Site(place.store.url))}
