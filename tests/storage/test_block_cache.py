"""The cache of a run's blocks is bounded, gives back what was kept, and leaves nothing behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from acdtask.storage.block_cache import BlockCache
from tests.conftest import CHECKOUT

BLOCK = 1000


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files, also for processes that a test starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def cache() -> Iterator[BlockCache]:
    with BlockCache.temporary(10 * BLOCK) as made:
        assert made is not None
        yield made


class Usage(NamedTuple):
    free: int


def block(number: int) -> bytes:
    return number.to_bytes(4, "little") * (BLOCK // 4)


def sent(cache: BlockCache) -> BlockCache:
    """The cache as a worker process gets it."""
    received: BlockCache = pickle.loads(pickle.dumps(cache))  # noqa: S301  # our own bytes
    return received


def kept(cache: BlockCache, numbers: range) -> list[int]:
    """The numbers of the blocks that a cache has, each as it was kept."""
    data = {number: cache.find(cache.name(number)) for number in numbers}
    assert all(found is None or bytes(found) == block(number) for number, found in data.items())
    return [number for number, found in data.items() if found is not None]


def test_a_full_cache_keeps_what_it_has(cache: BlockCache) -> None:
    for number in range(25):
        cache.keep(cache.name(number), block(number))
    assert kept(cache, range(25)) == list(range(10))
    assert (cache.folder / "blocks").stat().st_size == 10 * BLOCK


def test_a_cache_takes_at_most_a_quarter_of_the_free_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage(free=8 * BLOCK))
    with BlockCache.temporary() as cache:
        assert cache is not None
        for number in range(5):
            cache.keep(cache.name(number), block(number))
        assert kept(cache, range(5)) == [0, 1]


def test_threads_and_other_readers_see_what_was_kept(cache: BlockCache) -> None:
    other, same = BlockCache(cache.folder, cache.most_bytes), sent(cache)
    assert kept(other, range(4)) == []
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(lambda number: (cache if number % 2 else other).keep(cache.name(number), block(number)), range(40))
        )
    numbers = kept(cache, range(40))
    assert len(numbers) == 10
    assert kept(other, range(40)) == kept(same, range(40)) == numbers
    assert sent(cache) is same


def test_a_damaged_block_is_not_found(cache: BlockCache) -> None:
    for number in range(3):
        cache.keep(cache.name(number), block(number))
    with (cache.folder / "blocks").open("r+b") as file:
        file.seek(BLOCK + 500)
        file.write(b"?")
    assert kept(cache, range(3)) == [0, 2]
    with (cache.folder / "blocks").open("r+b") as file:
        file.truncate(2 * BLOCK + 10)
    assert kept(cache, range(3)) == [0]


def test_a_damaged_index_loses_blocks_and_nothing_else(cache: BlockCache) -> None:
    other = BlockCache(cache.folder, cache.most_bytes)
    os.truncate(cache.folder / "index", 5)
    assert kept(other, range(3)) == []
    other.keep(other.name(1), block(1))
    assert kept(other, range(3)) == [1]


KEEPS = """
import sys
from pathlib import Path
from acdtask.storage.block_cache import BlockCache
cache = BlockCache(Path(sys.argv[1]), int(sys.argv[2]))
number = int(sys.argv[3])
print("ready", flush=True)
while True:
    cache.keep(cache.name(number), number.to_bytes(4, "little") * 250)
    number += 1
"""


def test_killed_processes_leave_no_wrong_block_and_no_lock() -> None:
    most = 400_000 * BLOCK  # more than they can write meanwhile
    with BlockCache.temporary(most) as cache:
        assert cache is not None
        for kill in range(4):
            command = [sys.executable, "-c", KEEPS, str(cache.folder), str(most), str(kill * 100_000)]
            with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(0.05 + 0.013 * kill)  # each is killed at another moment of its writing
                process.kill()
        cache.keep(cache.name(1_000_000), block(1_000_000))
        assert kept(cache, range(1_000_000, 1_000_001)) == [1_000_000]
        numbers = [kept(cache, range(first, first + 5000)) for first in range(0, 400_000, 100_000)]
        assert all(found == list(range(found[0], found[0] + len(found))) for found in numbers if found)
        assert any(numbers)
        assert (cache.folder / "blocks").stat().st_size <= most


HOLDS = """
import time
from acdtask.storage.block_cache import BlockCache
with BlockCache.temporary(1000) as cache:
    cache.keep(cache.name(0), bytes(1000))
    print(cache.folder, flush=True)
    time.sleep(600)  # until it is killed
"""


def test_the_folder_of_a_killed_run_is_removed_by_the_next_one(temporary: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS], cwd=CHECKOUT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().decode().strip())
        assert folder.parent == temporary
        with BlockCache.temporary():
            assert folder.is_dir()  # that run is still going
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert folder.is_dir()
        with BlockCache.temporary() as cache:
            assert cache is not None
            assert list(temporary.iterdir()) == [cache.folder]
    assert list(temporary.iterdir()) == []


def test_without_a_folder_for_temporary_files_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with BlockCache.temporary() as cache:
        assert cache is None
