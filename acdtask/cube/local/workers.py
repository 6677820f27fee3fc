"""Pools of threads that read. They are kept for the process's lifetime: new threads reopen GDAL's and PROJ's files."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

__all__ = ["pool_of"]

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def pool_of(threads: int) -> ThreadPoolExecutor:
    """The process's pool with a number of threads. Its tasks must not wait for the same pool."""
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="acd-read")
        return _pools[threads]


def _forget() -> None:
    global _lock  # a fork may have copied it while it was locked, and copies no threads
    _lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget)
