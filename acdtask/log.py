"""Log events named `noun.verb` with fields, to stderr: text for people, JSON lines for machines."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import acdtask

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "EventLog",
    "LogMode",
    "LogSettings",
    "Repeats",
    "announce",
    "configure",
    "console",
    "current",
    "events",
    "install",
    "is_terminal",
]

LogMode = Literal["auto", "text", "json"]

ROOT = "acd"
TEXT_FORMAT, JSON_FORMAT = "text", "json"
USER_AND_PASSWORD = re.compile(r"//[^/?#\s]*@")
"""As an address may have them; they are never logged."""
WEB_QUERY = re.compile(r"(https?://[^\s?#]*)[?#]\S*", re.IGNORECASE)
"""What follows a `?` in an address on the web may be a signature; it is never logged."""
MOST_CONDITIONS, LONGEST_CONDITION = 1000, 300
_LIBRARIES = ("numpy", "rasterio", "scipy", "zarr", "obstore")


@dataclass(frozen=True)
class LogSettings:
    """How a process logs. Picklable, so that worker processes log alike.

    Attributes:
        mode: what was asked for: "auto", "text" or "json".
        form: what that means here: "text" or "json".
        level: the lowest level that is written.
        run_id: one for the whole command, workers included.
    """

    mode: LogMode = "auto"
    form: str = TEXT_FORMAT
    level: int = logging.WARNING
    run_id: str = ""

    @property
    def verbose(self) -> bool:
        """Whether everything is told."""
        return self.level <= logging.DEBUG


_current = LogSettings()
_console: Console | None = None


class Repeats:
    """Counts how often a condition repeats, and lets one line a minute of it through.

    Args:
        every_s: seconds between two lines of a condition.
        clock: gives the time in seconds.

    >>> repeats = Repeats(60, iter([0.0, 1.0, 2.0, 61.0]).__next__)
    >>> [repeats.count("full") for _ in range(4)]
    [0, None, None, 2]
    """

    def __init__(self, every_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, int]] = {}

    def count(self, condition: str) -> int | None:
        """How many lines of the condition were left out since the last one; None if this one is to be left out too."""
        with self._lock:
            now = self._clock()
            since, left_out = self._seen.get(condition, (-math.inf, 0))
            if now - since < self._every_s:
                self._seen[condition] = since, left_out + 1
                return None
            if len(self._seen) >= MOST_CONDITIONS:
                self._seen = {key: seen for key, seen in self._seen.items() if now - seen[0] < self._every_s}
            self._seen[condition] = now, 0
            return left_out


_repeats = Repeats()


class EventLog:
    """Where a part of the program writes its events.

    >>> events("ingest").info("shard.done", shard=3, tiles=4)  # below the default level, so nothing shows
    """

    def __init__(self, part: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{part}")

    def debug(self, event: str, /, **fields: Any) -> None:
        """An event that only a developer wants."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """An event that says how far the run is."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """An event that the user should look at, though the run goes on."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, *, traceback: bool = False, **fields: Any) -> None:
        """An event that ends the run. `traceback` adds the exception that is being handled."""
        self._write(logging.ERROR, event, fields, traceback=traceback)

    def repeated(self, event: str, /, *, key: str = "", **fields: Any) -> None:
        """A warning that may come thousands of times: one line a minute, which says how many were left out before it.

        Args:
            event: its name.
            key: tells conditions of the same event apart.
            fields: as always.
        """
        left_out = _repeats.count(f"{self._logger.name}\n{event}\n{key}")
        if left_out is not None:
            self.warning(event, **fields, **({"left_out": left_out} if left_out else {}))

    def _write(self, level: int, event: str, fields: dict[str, Any], *, traceback: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields}, exc_info=traceback)


def events(part: str) -> EventLog:
    """The log of a part of the program, such as "ingest"."""
    return EventLog(part)


def is_terminal() -> bool:
    """Whether a person watches stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


def console() -> Console:
    """The one console on stderr, which progress bars and log lines share so that neither overwrites the other."""
    global _console  # the live display and the log must meet in the same object
    if _console is None:
        from rich.console import Console

        _console = Console(stderr=True)
    return _console


def current() -> LogSettings:
    """How this process logs."""
    return _current


def configure(mode: LogMode = "auto", *, verbose: bool = False, quiet: bool = False, run_id: str = "") -> LogSettings:
    """Set up logging of this process. Text on a terminal shows warnings; lines for machines tell how the run goes.

    Args:
        mode: "auto" is text on a terminal and JSON lines elsewhere.
        verbose: down to debug.
        quiet: errors only.
        run_id: the id of this run; ACD_RUN_ID, or a new one, if empty.
    """
    terminal = is_terminal()
    form = mode if mode != "auto" else TEXT_FORMAT if terminal else JSON_FORMAT
    level = logging.WARNING if form == TEXT_FORMAT and terminal else logging.INFO
    if verbose:
        level = logging.DEBUG
    elif quiet:
        level = logging.ERROR
    settings = LogSettings(mode, form, level, run_id or os.environ.get("ACD_RUN_ID", "") or uuid.uuid4().hex[:12])
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if form == JSON_FORMAT:
        handler.setFormatter(_JsonFormatter())
    else:
        handler = _ConsoleHandler() if terminal else handler
        handler.setFormatter(_TextFormatter())
    install(settings, handler)
    return settings


def install(settings: LogSettings, handler: logging.Handler) -> None:
    """Send the events of this process, and the warnings of libraries, to one handler."""
    global _current  # logging is of the process, as in the standard library
    _current = settings
    root = logging.getLogger()
    for old in [old for old in root.handlers if getattr(old, "of_acd", False)]:
        root.removeHandler(old)
    handler.of_acd = True  # type: ignore[attr-defined]  # a mark of ours, to find the handler again
    handler.addFilter(_LibraryFilter())
    root.addHandler(handler)
    logging.getLogger(ROOT).setLevel(settings.level)
    logging.captureWarnings(capture=True)


def announce(arguments: Sequence[str]) -> None:
    """Write the first line of a run: versions and arguments."""
    libraries = {name: _version(name) for name in _LIBRARIES}
    events("cli").info(
        "run.started",
        acd=acdtask.__version__,
        python=platform.python_version(),
        **libraries,
        arguments=[WEB_QUERY.sub(r"\1?...", USER_AND_PASSWORD.sub("//", argument)) for argument in arguments],
    )


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow, and of no use to --help

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"


class _LibraryFilter(logging.Filter):
    """Lets a library say the same thing once a minute, such as asyncio when there are no descriptors left."""

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, "fields"):
            return True
        left_out = _repeats.count(f"{record.name}\n{record.getMessage()[:LONGEST_CONDITION]}")
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} times more in between)", ()
        return left_out is not None


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, tz=UTC).strftime("%H:%M:%S")
        level = f"{record.levelname.lower()} " if record.levelno >= logging.WARNING else ""
        part, event, fields = _parts(record)
        told = "".join(f" {key}={_text(value)}" for key, value in fields.items())
        line = f"{time} {level}{part} {event}{told}"
        return f"{line}\n{_traceback(self, record)}" if record.exc_info or record.exc_text else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        part, event, fields = _parts(record)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "part": part,
            "event": event,
            "run": _current.run_id,
        }
        for key, value in fields.items():
            line[f"{key}_" if key in line else key] = _json_value(value)
        if record.exc_info or record.exc_text:
            line["traceback"] = _traceback(self, record)
        return json.dumps(line, default=str, allow_nan=False)


class _ConsoleHandler(logging.Handler):
    """Writes above a progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        console().print(self.format(record), markup=False, highlight=False, emoji=False, soft_wrap=True)


def _parts(record: logging.LogRecord) -> tuple[str, str, dict[str, Any]]:
    fields: dict[str, Any] | None = getattr(record, "fields", None)
    if fields is None:
        return record.name, "library.said", {"message": record.getMessage().strip()}
    return record.name.removeprefix(f"{ROOT}."), record.getMessage(), fields


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_text:
        return record.exc_text
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(_json_value(value), default=str)
    return json.dumps(text) if isinstance(value, str) and (not text or any(c in text for c in ' "=\n')) else text


def _json_value(value: Any) -> Any:
    """JSON has no NaN: such numbers become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    return value
