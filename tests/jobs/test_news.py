"""What an event announces: images after the watermark of their series, once, whatever is killed or not delivered."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.news import News
from acdtask.storage.store import Store
from tests.jobs.series import (
    COUNT,
    EARLIER,
    LAST,
    MONITORED,
    PIXELS,
    REFERENCE,
    KilledError,
    Nightly,
    bring,
    images,
    killed,
    make_judged,
    planned,
    short,
)
from tests.jobs.small_site import baseline, ends, make_cube, monitor, run, write_images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_judged(tmp_path_factory.mktemp("series"))


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made")) / "cube"


@pytest.fixture
def nightly(cube: Path, monkeypatch: pytest.MonkeyPatch) -> Nightly:
    return Nightly(cube, monkeypatch)


def test_what_a_new_series_finds_is_shown_and_never_announced(cube: Path, nightly: Nightly) -> None:
    assert nightly.run() == ("heartbeat", [])
    assert nightly.run(high=4.0) == ("heartbeat", [])
    assert nightly.run(high=4.0, again=True) == ("heartbeat", [])


def test_an_image_after_the_watermark_is_announced_once(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    kind, (label,) = nightly.run()
    assert (kind, label) == ("alert", images(cube)[-1].label)
    assert nightly.run() == ("heartbeat", [])
    baseline(cube, end=EARLIER)
    assert nightly.run(again=True) == ("heartbeat", [])
    assert nightly.run() == ("heartbeat", [])


def test_the_first_image_of_a_series_that_was_planned_without_one_is_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = make_cube(tmp_path, REFERENCE, PIXELS)
    baseline(cube, end=LAST)
    nightly = Nightly(cube, monkeypatch)
    assert nightly.run() == ("heartbeat", [])
    write_images(cube.parent / "images", REFERENCE + 1, PIXELS, first=REFERENCE)
    run(IngestJob(), IngestSettings(source=str(cube.parent / "images")), cube)
    kind, labels = nightly.run()
    assert (kind, len(labels)) == ("alert", 1)


def test_a_receiver_that_is_away_for_two_runs_gets_every_event_once_in_order(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    first = nightly.run(delivered=False)
    bring(cube, COUNT + 2)
    second = nightly.run(delivered=False)
    assert nightly.run() == ("heartbeat", [])
    assert nightly.seen == [first, second, ("heartbeat", [])]
    assert [kind for kind, _ in nightly.seen[:2]] == ["alert", "alert"]
    assert [len(labels) for _, labels in nightly.seen] == [1, 1, 0]
    assert first[1] != second[1]
    nightly.send()
    assert len(nightly.received) == 3
    numbers = [event.attributes["sequence"] for event in nightly.received]
    assert numbers == sorted(set(numbers))


def test_a_failed_run_announces_its_patches_apart_from_the_failure(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    assert nightly.run(status="Failed") == ("failed", [])
    (kind, labels), failed = nightly.seen
    assert (kind, len(labels), failed) == ("alert", 1, ("failed", []))
    assert nightly.received[0].data["status"] == "Failed"
    assert len({event.key for event in nightly.received}) == 2
    assert nightly.run() == ("heartbeat", [])


def test_another_threshold_tells_no_patch_again_and_loses_no_new_one(cube: Path, nightly: Nightly) -> None:
    nightly.run()
    bring(cube, COUNT + 1)
    assert nightly.run()[0] == "alert"
    bring(cube, COUNT + 2)
    kind, labels = nightly.run(high=4.0)  # arrives with the change
    assert (kind, labels) == ("alert", [images(cube)[-1].label])
    assert nightly.run(high=2.5) == ("heartbeat", [])  # a third series, and back to the first one
    assert nightly.run() == ("heartbeat", [])
    assert nightly.run(high=4.0, again=True) == ("heartbeat", [])


@pytest.mark.parametrize("changed", ["algorithm", "profile", "baseline"])
def test_another_version_tells_no_patch_again(
    changed: str, cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(cube, COUNT + 1)
    assert nightly.run()[0] == "alert"
    settings: dict[str, Any] = {}
    if changed == "algorithm":
        monkeypatch.setattr("acdtask.jobs.monitor.series.ALGORITHM", 99)
        monkeypatch.setattr("acdtask.jobs.monitor.job.MonitorJob.algorithm", 99)
    elif changed == "profile":
        settings = {"profile": "tutorial"}
    else:
        baseline(cube, end=EARLIER, name="other")
        settings = {"baseline_name": "other"}
    before = len(images(cube))
    assert nightly.run(**settings) == ("heartbeat", [])
    assert len(images(cube)) >= before


def test_a_watch_with_another_name_is_a_new_one(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    assert nightly.run()[0] == "alert"
    assert nightly.run(name="strict", high=4.0) == ("heartbeat", [])
    bring(cube, COUNT + 2)
    assert nightly.run()[0] == "alert"
    assert nightly.run(name="strict", high=4.0)[0] == "alert"


def test_a_run_that_was_terminated_is_told_by_the_next_one(
    cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACD_RUN_AOI", "site")
    monkeypatch.setenv("ACD_RUN_WORKFLOW", "acd-site-1")
    monkeypatch.setenv("ACD_RUN_MONITOR", "every-night")
    bring(cube, COUNT + 1)
    nightly.work()  # and no exit handler
    assert nightly.run() == ("heartbeat", [])
    assert [kind for kind, _ in nightly.seen] == ["alert", "failed", "heartbeat"]
    _, stopped, _ = nightly.received
    assert (stopped.data["status"], stopped.data["monitor"], stopped.data["aoi"]) == ("Stopped", "every-night", "site")
    assert stopped.attributes["source"] == "/workflows/acd-site-1"
    assert stopped.data["causes"][0]["error"] == ErrorCode.RUN_STOPPED.label
    assert nightly.run() == ("heartbeat", [])
    assert len(nightly.received) == 4


def test_a_run_that_is_retried_as_a_whole_reports_each_end(
    cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`argo retry` keeps the id of the run."""
    monkeypatch.setenv("ACD_RUN_AOI", "site")
    for status in ("Failed", "Failed", "Succeeded"):
        nightly._runs = 0
        run = nightly.work()
        for _ in range(2):  # the pod of the exit handler is repeated
            nightly.report(run, status=status)
    assert [event.id for event in nightly.received] == ["run-1-failed", "run-1-failed-2", "run-1-succeeded-3"]


def test_an_image_that_comes_late_is_shown_and_not_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = make_cube(tmp_path, REFERENCE + 1, PIXELS)
    bring_only(cube, REFERENCE + 2)
    baseline(cube, end=LAST)
    nightly = Nightly(cube, monkeypatch)
    nightly.run()
    bring_only(cube, REFERENCE + 1)
    assert nightly.run() == ("heartbeat", [])
    assert len(images(cube)) == MONITORED


def bring_only(cube: Path, index: int) -> None:
    """One image arrives."""
    write_images(cube.parent / "images", index + 1, PIXELS, first=index)
    run(IngestJob(), IngestSettings(source=str(cube.parent / "images")), cube)


def test_a_backfill_before_the_first_night_does_not_make_the_newest_images_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = make_cube(tmp_path, COUNT, PIXELS)
    baseline(cube, end=LAST)
    monitor(cube, end=ends(REFERENCE))
    assert len(images(cube)) == 1
    assert Nightly(cube, monkeypatch).run() == ("heartbeat", [])
    assert len(images(cube)) == MONITORED


@pytest.mark.parametrize("killed_in", ["write_catalogue", "add_news", "_publish_manifest", "_retire"])
def test_a_publication_that_is_killed_loses_no_news(
    killed_in: str, cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(cube, COUNT + 1)
    with monkeypatch.context() as patch:
        patch.setattr(f"acdtask.jobs.monitor.publish.{killed_in}", killed)
        with pytest.raises(KilledError):
            nightly.run()
    monkeypatch.delenv("ACD_RUN_ID", raising=False)
    kind, labels = nightly.run()
    assert (kind, len(labels)) == ("alert", 1)
    assert nightly.run() == ("heartbeat", [])


@pytest.mark.parametrize("steps", range(7))
def test_a_notifier_that_is_killed_delivers_every_image_in_one_event(
    steps: int, cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each of its writes; the receiver tells repeated events by their source and id."""
    bring(cube, COUNT + 2)
    run = nightly.work()
    with monkeypatch.context() as patch:
        dying_after(steps, patch)
        with pytest.raises(KilledError):
            nightly.report(run)
    monkeypatch.setattr("acdtask.notify.outbox.LEASE_SECONDS", 0.0)
    expire(nightly)
    assert nightly.run() == ("heartbeat", []) or steps == 0
    distinct = {event.key: short(event) for event in nightly.received}
    assert sorted(label for _, labels in distinct.values() for label in labels) == [
        product.label for product in images(cube)[-2:]
    ]
    assert nightly.run() == ("heartbeat", [])
    assert list(cube.glob("events/site/news/*/pending/*/*")) == []


def expire(nightly: Nightly) -> None:
    """The lease of a killed sender ends."""
    for lease in (nightly.cube / "events/site/senders").glob("*.json"):
        lease.unlink()


def dying_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """The store dies after so many writes of the outbox and the news."""
    left: Iterator[int] = iter(range(steps))
    for name in ("create", "put", "delete"):
        original = getattr(Store, name)

        def wrapped(me: Store, key: str, *rest: Any, original: Any = original) -> Any:
            if "/events/" in f"{me.address_of(key)}" and next(left, None) is None:
                raise KilledError
            return original(me, key, *rest)

        patch.setattr(Store, name, wrapped)


def test_a_damaged_watermark_says_what_to_do(cube: Path) -> None:
    (path,) = cube.glob("events/site/news/*/watermark.json")
    path.write_bytes(path.read_bytes()[:-3])
    bring(cube, COUNT + 1)
    with pytest.raises(AcdError) as caught:
        monitor(cube)
    assert caught.value.code is ErrorCode.PRODUCT_DAMAGED
    path.unlink()
    monitor(cube)
    series = planned(cube).series
    assert series is not None
    assert News(Store.at(str(cube)), series).pending() == []
    assert len(images(cube)) == MONITORED + 1
