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
"""User and password in an address; they are never logged."""
WEB_QUERY = re.compile(r"(https?://[^\s?#]*)[?#]\S*", re.IGNORECASE)
"""The query of a web address, which may contain a signature; it is never logged."""
MOST_CONDITIONS, LONGEST_CONDITION = 1000, 300
_LIBRARIES = ("numpy", "rasterio", "scipy", "zarr", "obstore")


@dataclass(frozen=True)
class LogSettings:
    """Log settings of a process. Picklable, so that worker processes can use the same.

    Attributes:
        mode: the requested mode: "auto", "text" or "json".
        form: the resulting format: "text" or "json".
        level: minimum level that is written.
        run_id: id of the whole command, workers included.
    """

    mode: LogMode = "auto"
    form: str = TEXT_FORMAT
    level: int = logging.WARNING
    run_id: str = ""

    @property
    def verbose(self) -> bool:
        """Whether debug events are written."""
        return self.level <= logging.DEBUG


_current = LogSettings()
_console: Console | None = None


class Repeats:
    """Counts repetitions of a condition, and lets through one line per minute.

    Args:
        every_s: seconds between two lines about a condition.
        clock: returns the time in seconds.

    >>> repeats = Repeats(60, iter([0.0, 1.0, 2.0, 61.0]).__next__)
    >>> [repeats.count("full") for _ in range(4)]
    [0, None, None, 2]
    """

    def __init__(self, every_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, int]] = {}

    def count(self, condition: str) -> int | None:
        """Number of lines about the condition suppressed since the last one; None if this one is suppressed too."""
        with self._lock:
            now = self._clock()
            since, suppressed = self._seen.get(condition, (-math.inf, 0))
            if now - since < self._every_s:
                self._seen[condition] = since, suppressed + 1
                return None
            if len(self._seen) >= MOST_CONDITIONS:
                self._seen = {key: seen for key, seen in self._seen.items() if now - seen[0] < self._every_s}
            self._seen[condition] = now, 0
            return suppressed


_repeats = Repeats()


class EventLog:
    """Writes the log events of a part of the program.

    >>> events("ingest").info("shard.done", shard=3, tiles=4)  # below the default level, so nothing shows
    """

    def __init__(self, part: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{part}")

    def debug(self, event: str, /, **fields: Any) -> None:
        """Log an event for developers."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Log an event about the progress of a run."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Log an event that the user should look at, although the run continues."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, *, traceback: bool = False, **fields: Any) -> None:
        """Log an event that ends the run. `traceback` adds the exception being handled."""
        self._write(logging.ERROR, event, fields, traceback=traceback)

    def repeated(self, event: str, /, *, key: str = "", **fields: Any) -> None:
        """Log a warning that may occur thousands of times: one line per minute, with the number suppressed before it.

        `key` distinguishes conditions of the same event.
        """
        suppressed = _repeats.count(f"{self._logger.name}\n{event}\n{key}")
        if suppressed is not None:
            self.warning(event, **fields, **({"left_out": suppressed} if suppressed else {}))

    def _write(self, level: int, event: str, fields: dict[str, Any], *, traceback: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields}, exc_info=traceback)


def events(part: str) -> EventLog:
    """The event log of a part of the program, such as "ingest"."""
    return EventLog(part)


def is_terminal() -> bool:
    """Whether stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def console() -> Console:
    """The console on stderr, shared by progress bars and log lines so that neither overwrites the other."""
    global _console  # the live display and the log must share one object
    if _console is None:
        from rich.console import Console

        _console = Console(stderr=True)
    return _console


def current() -> LogSettings:
    """The log settings of this process."""
    return _current


def configure(mode: LogMode = "auto", *, verbose: bool = False, quiet: bool = False, run_id: str = "") -> LogSettings:
    """Set up logging in this process. Text on a terminal shows warnings; other output also shows progress events.

    `mode` auto is text on a terminal and JSON lines elsewhere. `verbose` includes debug events; `quiet` is errors only.
    An empty `run_id` means ACD_RUN_ID, or a new id.
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
    """Send the events of this process and the warnings of libraries to a handler."""
    global _current  # logging is global, as in the standard library
    _current = settings
    root = logging.getLogger()
    for old in [old for old in root.handlers if getattr(old, "of_acd", False)]:
        root.removeHandler(old)
    handler.of_acd = True  # type: ignore[attr-defined]  # a mark to find the handler again
    handler.addFilter(_LibraryFilter())
    root.addHandler(handler)
    logging.getLogger(ROOT).setLevel(settings.level)
    logging.captureWarnings(capture=True)


def announce(arguments: Sequence[str]) -> None:
    """Log the first line of a run: versions and arguments."""
    libraries = {name: _version(name) for name in _LIBRARIES}
    events("cli").info(
        "run.started",
        acd=acdtask.__version__,
        python=platform.python_version(),
        **libraries,
        arguments=[WEB_QUERY.sub(r"\1?...", USER_AND_PASSWORD.sub("//", argument)) for argument in arguments],
    )


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and not needed for --help

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"


class _LibraryFilter(logging.Filter):
    """Limits repeated library messages to one per minute, such as asyncio's when file descriptors run out."""

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, "fields"):
            return True
        suppressed = _repeats.count(f"{record.name}\n{record.getMessage()[:LONGEST_CONDITION]}")
        if suppressed:
            record.msg, record.args = f"{record.getMessage()} (repeated {suppressed} times in between)", ()
        return suppressed is not None


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, tz=UTC).strftime("%H:%M:%S")
        level = f"{record.levelname.lower()} " if record.levelno >= logging.WARNING else ""
        part, event, fields = _parts(record)
        values = "".join(f" {key}={_text(value)}" for key, value in fields.items())
        line = f"{time} {level}{part} {event}{values}"
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
    """Writes log lines above the progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        console().print(self.format(record), markup=False, highlight=False, emoji=False, soft_wrap=True)


def _parts(record: logging.LogRecord) -> tuple[str, str, dict[str, Any]]:
    fields: dict[str, Any] | None = getattr(record, "fields", None)
    if fields is None:
        return record.name, "library.logged", {"message": record.getMessage().strip()}
    return record.name.removeprefix(f"{ROOT}."), record.getMessage(), fields


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_text:
        return record.exc_text
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(_json_value(value), default=str)
    return json.dumps(text) if isinstance(value, str) and (not text or any(c in text for c in ' "=\n')) else text


def _json_value(value: Any) -> Any:
    """A value for JSON, which has no NaN or infinity: such numbers become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    return value
