"""Figures of Argo's controller over time: it forgets them when it starts again, so they are read all along."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

Figures: TypeAlias = dict[tuple[str, str], float]
"""By metric and job."""

EVERY = 5.0
"""Seconds; a controller that is gone between two looks takes what it has counted there with it."""


class Totals:
    """Adds up counters over the starts of the process that keeps them, as Prometheus' `increase` does.

    >>> totals, tiles = Totals(), ("acd_units_total", "ingest")
    >>> for seen in ({tiles: 3.0}, {tiles: 5.0}, {}, {tiles: 2.0}):
    ...     totals.add(seen)
    >>> totals.now()
    {('acd_units_total', 'ingest'): 7.0}
    >>> totals.starts
    1
    """

    def __init__(self) -> None:
        self._before: Figures = {}
        self._last: Figures = {}
        self.starts = 0

    def add(self, seen: Figures) -> None:
        """Take what a look has brought."""
        if any(seen.get(one, -1.0) < value for one, value in self._last.items() if _counts(one)):
            self.starts += 1
            self._before = self.now()
            self._last = {}
        self._last |= seen

    def now(self) -> Figures:
        """Counters since the first look, and what gauges last said."""
        counted = {one: value + self._before.get(one, 0.0) for one, value in self._last.items() if _counts(one)}
        return self._before | self._last | counted


class Scraper:
    """Looks every few seconds while it is entered.

    Attributes:
        totals: what was seen so far.
        missed: looks that got no answer.
    """

    def __init__(self, look: Callable[[], Figures]) -> None:
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scraper", daemon=True)
        self.totals = Totals()
        self.missed = 0

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None:
            self.totals.add(self._look())

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            try:
                seen = self._look()
            except (AssertionError, subprocess.TimeoutExpired):  # the controller starts, or the API server is slow
                self.missed += 1
            else:
                self.totals.add(seen)


def _counts(one: tuple[str, str]) -> bool:
    return one[0].endswith("_total")
