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


def test_an_alert_that_was_not_delivered_comes_with_the_next_event(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    first = nightly.run(delivered=False)
    assert first[0] == "alert"
    bring(cube, COUNT + 2)
    kind, labels = nightly.run()
    assert (kind, labels[:1], len(labels)) == ("alert", first[1], 2)
    assert nightly.run() == ("heartbeat", [])


def test_a_failure_shows_news_and_announces_nothing(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    kind, labels = nightly.run(status="Failed")
    assert (kind, len(labels)) == ("failed", 1)
    assert nightly.run() == ("alert", labels)


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


@pytest.mark.parametrize("steps", range(1, 4))
def test_a_notifier_that_is_killed_announces_at_least_once(
    steps: int, cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each of its writes after the post: two images are announced, marked and forgotten."""
    bring(cube, COUNT + 2)
    _, labels = nightly.run(delivered=False)
    with monkeypatch.context() as patch:
        dying_after(steps, patch)
        with pytest.raises(KilledError):
            nightly.run()
    kind, again = nightly.run()
    assert set(again) <= set(labels)
    assert kind == ("alert" if again else "heartbeat")
    assert nightly.run() == ("heartbeat", [])
    assert list((cube / "products/site/monitor").glob("*/news/pending/*/*")) == []


def dying_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """The store dies after so many writes below news/."""
    left: Iterator[int] = iter(range(steps))
    for name in ("create", "delete"):
        original = getattr(Store, name)

        def wrapped(me: Store, key: str, *rest: Any, original: Any = original) -> Any:
            if key.startswith(("pending/", "announced/")) and next(left, None) is None:
                raise KilledError
            return original(me, key, *rest)

        patch.setattr(Store, name, wrapped)


def test_a_damaged_watermark_says_what_to_do(cube: Path) -> None:
    (path,) = (cube / "products/site/monitor").glob("*/news/watermark.json")
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
