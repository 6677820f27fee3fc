"""Thread pools for calls: one lane per kind of call, so that no kind can block another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from acdtask.serve.streams import StreamLimits
from acdtask.serve.turns import Turns

__all__ = ["Lane", "Lanes"]

SIDE_THREADS = 32
REFLECTION_THREADS = 8
WAITING, WAIT_S = 256, 300.0
HEALTH, REFLECTION = "/grpc.health.v1.", "/grpc.reflection."
TRIVIAL = frozenset({"/geocube.Geocube/Version", "/geocube.GeocubeDownloader/Version"})
PIXELS = frozenset(
    {"/geocube.Geocube/GetCube", "/geocube.Geocube/GetXYZTile", "/geocube.GeocubeDownloader/DownloadCube"}
)


class _Pool(ThreadPoolExecutor):
    """A thread pool that counts its pending and running calls."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._count_lock = threading.Lock()
        self.pending = 0
        self.threads = threads

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call in a thread of the pool."""
        self._change(1)
        try:
            future = super().submit(fn, *args, **kwargs)
        except BaseException:
            self._change(-1)
            raise
        future.add_done_callback(lambda _: self._change(-1))
        return future

    def _change(self, by: int) -> None:
        with self._count_lock:
            self.pending += by


@dataclass(frozen=True)
class Lane:
    """Threads for one kind of call.

    Attributes:
        pool: the threads; a call that waits for its turn or its client occupies one of them.
        turns: limits the number of concurrent calls; None if calls are short, or wait for their turn elsewhere.
    """

    pool: _Pool
    turns: Turns | None = None

    @property
    def is_full(self) -> bool:
        """Whether all threads are occupied."""
        return self.pool.pending >= self.pool.threads


class Lanes:
    """The lanes of a server.

    Attributes:
        side: health, versions, refusals.
        reflection: descriptions of the services.
        calls: calls with a single response.
        lists: streams of records, tiles and the like.
        pixels: streams of pixels, which get their turns from `Streams`.

    Args:
        workers: maximum number of concurrent calls per lane.
        limits: of the streams of pixels.
    """

    def __init__(self, workers: int, limits: StreamLimits) -> None:
        self.side = Lane(_Pool(SIDE_THREADS, "side"))
        self.reflection = Lane(_Pool(REFLECTION_THREADS, "reflection"))
        self.calls = Lane(_Pool(workers + WAITING, "call"), _turns(workers))
        self.lists = Lane(_Pool(workers + WAITING, "list"), _turns(workers))
        self.pixels = Lane(_Pool(limits.streams + limits.waiting, "pixels"))

    @property
    def all(self) -> tuple[Lane, ...]:
        """All lanes."""
        return self.side, self.reflection, self.calls, self.lists, self.pixels

    @property
    def threads(self) -> int:
        """Number of threads of all lanes."""
        return sum(lane.pool.threads for lane in self.all)

    def of(self, method: str, *, streams: bool) -> Lane:
        """The lane of a method such as `/geocube.Geocube/GetCube`; `streams`: whether its response is a stream."""
        if method.startswith(HEALTH) or method in TRIVIAL:
            return self.side
        if method.startswith(REFLECTION):
            return self.reflection
        if method in PIXELS:
            return self.pixels
        return self.lists if streams else self.calls

    def shut_down(self) -> None:
        """Start no more calls; running ones continue."""
        for lane in self.all:
            lane.pool.shutdown(wait=False)


def _turns(workers: int) -> Turns:
    return Turns(workers, WAITING, WAIT_S, activity="calls are running")
