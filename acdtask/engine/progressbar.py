"""Progress of a round: a bar on a terminal, elsewhere a log line at its start and end."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from acdtask import log

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar"]

_events = log.events("engine")


class ProgressBar:
    """Shows the units done of a round, with rate and remaining time, on stderr.

    Args:
        title: name of the activity, such as "monitor: label".
        total: number of units of the whole round.
        unit: what is counted, in the plural.
        done: number of units done by an earlier run.
        visible: whether to draw; None draws if stderr is a terminal.

    >>> with ProgressBar("ingest: read", total=5, unit="files", visible=False) as bar:
    ...     bar.update(0, 2)
    ...     bar.update(0, 1)  # a late report
    ...     bar.update(1, 1)
    ...     bar.units
    3
    """

    def __init__(
        self, title: str, total: int, *, unit: str = "tiles", done: int = 0, visible: bool | None = None
    ) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.visible = log.is_terminal() if visible is None else visible
        self._before = done
        self._of_item: dict[object, int] = {}
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._started = 0.0

    @property
    def units(self) -> int:
        """Units done so far."""
        return self._before + sum(self._of_item.values())

    def __enter__(self) -> ProgressBar:
        self._started = time.monotonic()
        if self.visible:
            self._progress = _rich_progress(self.unit)
            self._progress.start()
            self._task = self._progress.add_task(self.title, total=self.total, completed=self._before)
        else:
            _events.info("round.started", title=self.title, total=self.total, done=self._before, unit=self.unit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        else:
            seconds = round(time.monotonic() - self._started, 3)
            event = "round.done" if kind is None else "round.stopped"
            _events.info(event, title=self.title, total=self.total, done=self.units, unit=self.unit, seconds=seconds)

    def complete(self, units: int) -> None:
        """Set the number of units done, whatever items reported before; later items add to it."""
        self._before, self._of_item = units, {}
        self._show()

    def update(self, item: object, units: int) -> None:
        """Set the number of units that an item (any hashable) has done; it never decreases."""
        self._of_item[item] = max(units, self._of_item.get(item, 0))
        self._show()

    def _show(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self.units)


def _rich_progress(unit: str) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=log.console(),
    )
