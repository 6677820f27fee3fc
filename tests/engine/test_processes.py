"""The worker pool, with real processes and real signals."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from acdtask import log
from acdtask.engine.processes import ONE_THREAD, Progress, RemoteTraceback, WorkerPool, cores
from acdtask.errors import AcdError, ErrorCode

PATIENCE = 20.0


def square(item: int, progress: Progress) -> int:
    progress(1)
    return item * item


def who(_item: int, _progress: Progress) -> int:
    time.sleep(0.05)
    return os.getpid()


def environment(_item: int, _progress: Progress) -> dict[str, str]:
    return {name: os.environ.get(name, "") for name in ONE_THREAD}


def count_to(item: int, progress: Progress) -> int:
    end = time.monotonic() + 0.35
    reports = 0
    while time.monotonic() < end:
        reports += 1
        progress(reports)
        time.sleep(0.001)
    return reports


def raise_acd(item: int, _progress: Progress) -> None:
    raise AcdError(ErrorCode.INPUT_UNREADABLE, f"scene{item}.tif is cut short", "Fetch it again.")


class UnpicklableError(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def raise_by_item(item: str, _progress: Progress) -> str:
    if item == "value":
        raise ValueError("the seventh row")
    if item == "unpicklable":
        raise UnpicklableError("this", "that")
    if item == "lambda":
        return lambda: None  # type: ignore[return-value]  # a result that cannot be pickled
    return item


def fail_first_then_mark(item: tuple[int, str], _progress: Progress) -> int:
    number, folder = item
    if number == 0:
        raise ValueError("the first one")
    time.sleep(0.5)
    Path(folder, str(number)).touch()
    return number


def die(item: str, _progress: Progress) -> str:
    if item == "victim":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "leaver":
        os._exit(7)
    return item


def write_for_ever(item: tuple[int, str], _progress: Progress) -> None:
    number, folder = item
    while True:
        sum(range(200_000))
        Path(folder, f"{number}-{os.getpid()}").write_text(str(time.time()))


def write_or_hold_the_gil(item: tuple[int, str], progress: Progress) -> None:
    number, folder = item
    if number == 0:
        write_for_ever(item, progress)
    Path(folder, f"{number}-{os.getpid()}").touch()
    re.match(r"(a+)+$", "a" * 40 + "b")  # one call of C that lasts for hours and lets no thread of Python run


def say(item: int, _progress: Progress) -> None:
    log.events("probe").info("item.seen", item=item, odd=object)


class Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_item_comes_back_with_its_result(workers: int) -> None:
    with WorkerPool(workers) as pool:
        assert sorted(pool.map_unordered(square, range(7))) == [(n, n * n) for n in range(7)]
        assert list(pool.map_unordered(square, [])) == []


def test_items_run_in_children_that_serve_several_rounds() -> None:
    with WorkerPool(2) as pool:
        first = {pid for _, pid in pool.map_unordered(who, range(6))}
        second = {pid for _, pid in pool.map_unordered(who, range(6))}
    assert os.getpid() not in first
    assert second <= first
    assert len(first) == 2
    assert not any(alive(pid) for pid in first)


def test_one_worker_is_a_child_and_none_is_this_process() -> None:
    with WorkerPool(1) as single, WorkerPool(0) as none:
        assert {pid for _, pid in none.map_unordered(who, [1])} == {os.getpid()}
        assert os.getpid() not in {pid for _, pid in single.map_unordered(who, [1])}


def test_libraries_in_a_worker_have_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    with WorkerPool(1) as pool:
        assert dict(pool.map_unordered(environment, [0]))[0] == ONE_THREAD
    assert os.environ["OMP_NUM_THREADS"] == "8"


def test_progress_arrives_while_an_item_runs_and_not_too_often() -> None:
    seen: list[tuple[int, int]] = []
    with WorkerPool(1) as pool:
        [(_, reports)] = pool.map_unordered(count_to, [5], on_progress=lambda item, units: seen.append((item, units)))
    assert 2 <= len(seen) <= 6 < reports
    assert seen[-1] == (5, reports)
    assert seen == sorted(seen)
    assert {item for item, _ in seen} == {5}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_acd_error_arrives_as_itself(workers: int) -> None:
    with WorkerPool(workers) as pool, pytest.raises(AcdError) as caught:
        list(pool.map_unordered(raise_acd, [3]))
    assert caught.value.code is ErrorCode.INPUT_UNREADABLE
    assert str(caught.value) == "ACD-201: scene3.tif is cut short. Fetch it again."


def test_other_errors_keep_the_traceback_of_the_worker() -> None:
    with WorkerPool(1) as pool:
        with pytest.raises(ValueError, match="the seventh row") as caught:
            list(pool.map_unordered(raise_by_item, ["value"]))
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in raise_by_item" in str(caught.value.__cause__)
        with pytest.raises(RuntimeError, match="UnpicklableError: this and that"):
            list(pool.map_unordered(raise_by_item, ["unpicklable"]))
        with pytest.raises(Exception, match=r"pickle|get local object"):
            list(pool.map_unordered(raise_by_item, ["lambda"]))
        assert list(pool.map_unordered(raise_by_item, ["well"])) == [("well", "well")]


def test_the_first_failure_stops_new_items_and_lets_running_ones_end(tmp_path: Path) -> None:
    items = [(number, str(tmp_path)) for number in range(8)]
    with WorkerPool(2) as pool:
        list(pool.map_unordered(square, range(4)))  # both workers are up, so that both get an item at once
        results = pool.map_unordered(fail_first_then_mark, items)
        assert next(results) == ((1, str(tmp_path)), 1)
        with pytest.raises(ValueError, match="the first one"):
            next(results)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.parametrize(("item", "how"), [("victim", "was ended by SIGKILL"), ("leaver", "ended with status 7")])
def test_a_lost_worker_is_named_by_its_item_and_the_pool_goes_on(item: str, how: str) -> None:
    with WorkerPool(2) as pool:
        with pytest.raises(AcdError) as caught:
            list(pool.map_unordered(die, ["a", item, "b"], label=lambda item: f"shard {item}"))
        assert caught.value.code is ErrorCode.WORKER_LOST
        assert f"shard {item} {how}" in caught.value.detail
        assert sorted(pool.map_unordered(die, ["c", "d"])) == [("c", "c"), ("d", "d")]


def test_a_worker_killed_between_rounds_is_replaced() -> None:
    with WorkerPool(1) as pool:
        [(_, pid)] = pool.map_unordered(who, [0])
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid))
        [(_, other)] = pool.map_unordered(who, [0])
    assert other != pid


def test_leaving_the_loop_ends_what_runs(tmp_path: Path) -> None:
    with WorkerPool(1) as pool:
        rounds = pool.map_unordered(square, range(9))
        next(rounds)
        rounds.close()
        assert sorted(pool.map_unordered(square, [3])) == [(3, 9)]


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers_and_says_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    items = [(item, str(tmp_path)) for item in range(4)]

    def strike() -> None:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=strike)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    with pytest.raises(AcdError) as caught, WorkerPool(2) as pool:
        list(pool.map_unordered(write_for_ever, items))
    thread.join()
    assert caught.value.code is ErrorCode.INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) is before
    written = [path.name for path in tmp_path.iterdir()]
    assert {name.split("-")[0] for name in written} == {"0", "1"}
    assert not any(alive(int(name.split("-")[1])) for name in written)


def test_no_worker_outlives_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from acdtask.engine.processes import WorkerPool\n"
        "from test_processes import write_or_hold_the_gil\n"
        "if __name__ == '__main__':\n"
        "    with WorkerPool(2) as pool:\n"
        "        list(pool.map_unordered(write_or_hold_the_gil, [(0, sys.argv[1]), (1, sys.argv[1])]))\n"
    )
    folder = tmp_path / "written"
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(folder)])
    wait_until(lambda: len(list(folder.iterdir())) == 2)
    workers = [int(path.name.split("-")[1]) for path in folder.iterdir()]
    assert all(alive(pid) for pid in workers)
    parent.kill()
    parent.wait()
    killed = time.time()
    wait_until(lambda: not any(alive(pid) for pid in workers))
    last = max(path.stat().st_mtime for path in folder.iterdir())
    assert last - killed < 1.0


def test_events_of_a_worker_reach_the_handlers_of_the_parent() -> None:
    handler = Listener()
    log.install(log.LogSettings(level=logging.INFO, run_id="one"), handler)
    try:
        with WorkerPool(1) as pool:
            list(pool.map_unordered(say, [4]))
    finally:
        log.install(log.LogSettings(), logging.NullHandler())
        logging.captureWarnings(capture=False)
    [record] = handler.records
    assert (record.name, record.getMessage()) == ("acd.probe", "item.seen")
    assert record.__dict__["fields"]["item"] == 4


def test_a_pool_refuses_a_negative_number() -> None:
    with pytest.raises(AcdError) as caught:
        WorkerPool(-1)
    assert caught.value.code is ErrorCode.SETTING_INVALID
    assert cores() >= 1
