"""The progress of an AOI, and waiting for it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdtask.errors import AcdError, ErrorCode
from acdtask.ingester.client import IngesterClient
from acdtask.ingester.model import Counts, Kind
from acdtask.ingester.post import post_aoi
from acdtask.ingester.wait import AoiPhase, phase_of, progress_of, require_done, wait
from tests.ingester.area import area, passes
from tests.ingester.standin import Fault, Standin

COUNTS = st.builds(Counts, *[st.integers(0, 3)] * 5)


@pytest.fixture(autouse=True)
def _posted(standin: Standin, client: IngesterClient) -> None:
    standin.catalogue = passes(3)
    post_aoi(client, area())


def failing(**outcomes: tuple[str, str]) -> Any:
    """Workers that fail the given scenes and tiles, such as scene_1."""
    return lambda kind, row: outcomes.get(f"{kind}_{row['id']}", ("DONE", ""))


def test_waiting_ends_when_all_is_done(standin: Standin, client: IngesterClient) -> None:
    seen: list[tuple[int, int]] = []
    thread = threading.Timer(0.3, standin.work)
    thread.start()
    progress = wait(client, "koln", 20, lambda scenes, tiles: seen.append((scenes.done, tiles.done)), every=0.05)
    thread.join()
    assert progress.phase is AoiPhase.DONE
    assert (progress.scenes, progress.tiles, progress.problems) == (Counts(done=3), Counts(done=6), ())
    assert (seen[0], seen[-1]) == ((0, 0), (3, 6))
    require_done(progress)


def test_time_that_is_not_enough_is_told(client: IngesterClient) -> None:
    started = time.monotonic()
    progress = wait(client, "koln", 0.3, every=0.05)
    assert time.monotonic() - started < 3
    assert progress.phase is AoiPhase.WORKING
    with pytest.raises(AcdError, match="scenes 3 pending; tiles 6 new") as caught:
        require_done(progress)
    assert (caught.value.code, caught.value.code.value.exit_status) == (ErrorCode.INGESTER_WAITING, 75)


def test_without_time_it_looks_once(standin: Standin, client: IngesterClient) -> None:
    standin.work()
    assert wait(client, "koln", 0).phase is AoiPhase.DONE


def test_what_failed_for_good_is_named_with_its_message(standin: Standin, client: IngesterClient) -> None:
    standin.work(failing(scene_2=("FAILED", "no product\nfound."), tile_6=("FAILED", "SNAP: out of memory")))
    progress = wait(client, "koln", 5, every=0.05)
    assert progress.phase is AoiPhase.FAILED
    assert [(problem.kind, problem.id, problem.message) for problem in progress.problems] == [
        (Kind.SCENE, 2, "no product found"),
        (Kind.TILE, 6, "SNAP: out of memory"),
    ]
    with pytest.raises(AcdError) as caught:
        require_done(progress)
    assert caught.value.code is ErrorCode.INGESTER_FAILED
    assert "S1A_IW_SLC__1SDV_20210119 (id 2, FAILED): no product found; tile T15_IW1_2 of" in caught.value.detail
    assert "retry koln --failed" in caught.value.fix
    require_done(progress, accept_failed=True)


def test_what_waits_for_a_retry_ends_the_wait_although_tiles_depend_on_it(
    standin: Standin, client: IngesterClient
) -> None:
    standin.work(failing(tile_1=("RETRY", "storage is away")))
    assert [standin.tiles[number]["status"] for number in (1, 3, 5)] == ["RETRY", "NEW", "NEW"]
    progress = wait(client, "koln", 60, every=0.05)
    assert progress.phase is AoiPhase.RETRIABLE
    with pytest.raises(AcdError, match="storage is away") as caught:
        require_done(progress, accept_failed=True)
    assert caught.value.code is ErrorCode.INGESTER_FAILED
    assert caught.value.fix.endswith("'acdtask ingester retry koln'.")
    client.retry_aoi("koln")
    standin.work()
    require_done(progress_of(client, "koln"))


def test_only_the_first_problems_are_named(standin: Standin, client: IngesterClient) -> None:
    standin.catalogue = passes(20)
    post_aoi(client, area(), again=True)
    standin.work(lambda kind, _row: ("FAILED", "no") if kind == "scene" else ("DONE", ""))
    progress = progress_of(client, "koln")
    assert len(progress.problems) == 20  # and none of their tiles
    with pytest.raises(AcdError, match="and 15 more"):
        require_done(progress)


def test_an_ingester_that_is_away_for_a_moment_does_not_end_the_waiting(
    standin: Standin, client: IngesterClient
) -> None:
    standin.faults = [Fault("GET", "/aoi/koln", "status", times=7, status=503), Fault("GET", "/aoi/koln", "reset")]
    thread = threading.Timer(0.2, standin.work)
    thread.start()
    assert wait(client, "koln", 20, every=0.05).phase is AoiPhase.DONE
    thread.join()


def test_an_ingester_that_is_away_at_the_end_is_told(standin: Standin, client: IngesterClient) -> None:
    standin.faults = [Fault("GET", "/aoi/koln", "status", times=999, status=503)]
    with pytest.raises(AcdError) as caught:
        wait(client, "koln", 0.2, every=0.05)
    assert caught.value.code is ErrorCode.INGESTER_UNREACHABLE


def test_an_aoi_that_is_not_there_is_not_waited_for(standin: Standin, client: IngesterClient) -> None:
    with pytest.raises(AcdError, match="the ingester has no AOI bonn; it has koln"):
        wait(client, "bonn", 60)
    standin.aois.append("bonn")
    progress = wait(client, "bonn", 60)
    assert progress.phase is AoiPhase.EMPTY
    with pytest.raises(AcdError, match="has no scene") as caught:
        require_done(progress)
    assert caught.value.code is ErrorCode.INPUT_MISSING


@given(COUNTS, COUNTS)
def test_done_is_said_only_when_everything_is(scenes: Counts, tiles: Counts) -> None:
    phase = phase_of(scenes, tiles)
    counts = {name: getattr(scenes, name) + getattr(tiles, name) for name in ("new", "pending", "retry", "failed")}
    if phase is AoiPhase.DONE:
        assert not any(counts.values())
    if phase is AoiPhase.FAILED:
        assert counts["failed"]
        assert not counts["new"] + counts["pending"] + counts["retry"]
    if phase is AoiPhase.RETRIABLE:
        assert counts["retry"]
        assert not counts["pending"]
    assert (phase is AoiPhase.EMPTY) == (scenes.total == 0)
