"""Filename patterns: what a file's name says about its record."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from datetime import UTC

from acdtask.errors import AcdError, ErrorCode

__all__ = ["FilenamePattern", "Named"]

FIELD = re.compile(r"\{(?P<name>[a-z_][a-z0-9_]*)(?::(?P<format>[^{}]+))?\}")
DATES = ("date", "start", "end")
DATE_DIRECTIVES = {
    "%Y": r"\d{4}",
    "%m": r"\d{2}",
    "%d": r"\d{2}",
    "%H": r"\d{2}",
    "%M": r"\d{2}",
    "%S": r"\d{2}",
    "%j": r"\d{3}",
    "%y": r"\d{2}",
}


@dataclass(frozen=True)
class Named:
    """What a filename said: the image's datetime, the first date of a pair if there is one, and tags."""

    datetime: dt.datetime
    start: dt.datetime | None
    tags: dict[str, str] = field(default_factory=dict)


class FilenamePattern:
    """A pattern such as `S1_{start:%Y%m%d}_{end:%Y%m%d}_{polarisation}.tif`.

    `{date}`, or `{start}` and `{end}`, are dates in strftime's language (default `%Y%m%d`); a pair's datetime is its
    end. Any other `{name}` becomes a tag. `*` stands for anything within a name. A pattern without `/` is matched
    with the file's name, one with `/` with the end of its path. USAGE errors: SETTING_INVALID.

    >>> pattern = FilenamePattern("S1_{start:%Y%m%d}-{end:%Y%m%d}_{polarisation}_*.tif")
    >>> named = pattern.match("2018/S1_20180106-20180130_VV_cc.tif")
    >>> named.datetime.date().isoformat(), named.start.date().isoformat(), named.tags
    ('2018-01-30', '2018-01-06', {'polarisation': 'VV'})
    >>> pattern.match("dem.tif") is None
    True
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._formats: dict[str, str] = {}
        body = ""
        position = 0
        for found in FIELD.finditer(text):
            body += self._literal(text[position : found.start()]) + self._field(found["name"], found["format"])
            position = found.end()
        body += self._literal(text[position:])
        if not {"date", "end"} & self._formats.keys():
            raise AcdError(ErrorCode.SETTING_INVALID, f"the pattern {text!r} has neither {{date}} nor {{end}}")
        self._regex = re.compile(rf"(?:^|.*/){body}$" if "/" in text else rf"(?:.*/)?{body}$")

    def match(self, path: str) -> Named | None:
        """What the path says, or None if it does not match. DATE_INVALID if a date is none; DATES_OUT_OF_ORDER."""
        found = self._regex.match(path)
        if found is None:
            return None
        dates = {name: self._date(found[name], name, path) for name in self._formats}
        tags = {name: value for name, value in found.groupdict().items() if name not in self._formats}
        start, end = dates.get("start"), dates.get("end", dates.get("date"))
        if end is None:
            raise AcdError(ErrorCode.DATE_INVALID, f"{path} has no date")
        if start is not None and start >= end:
            raise AcdError(
                ErrorCode.DATES_OUT_OF_ORDER, f"{path} starts on {start.date()} and ends on {end.date()}, not after it"
            )
        return Named(end, start, tags)

    def _literal(self, text: str) -> str:
        if "{" in text or "}" in text:
            raise AcdError(ErrorCode.SETTING_INVALID, f"the pattern {self.text!r} has a brace that is not a {{field}}")
        return "[^/]*".join(re.escape(part) for part in text.split("*"))

    def _field(self, name: str, date_format: str | None) -> str:
        if name not in DATES:
            if date_format:
                raise AcdError(ErrorCode.SETTING_INVALID, f"only date, start and end take a format, not {{{name}}}")
            return f"(?P<{name}>[^/_]+)"
        self._formats[name] = date_format or "%Y%m%d"
        body = re.escape(self._formats[name]).replace("\\%", "%")
        for directive, digits in DATE_DIRECTIVES.items():
            body = body.replace(directive, digits)
        if "%" in body:
            known = " ".join(DATE_DIRECTIVES)
            raise AcdError(ErrorCode.SETTING_INVALID, f"{{{name}:{date_format}}} has a directive other than {known}")
        return f"(?P<{name}>{body})"

    def _date(self, text: str, name: str, path: str) -> dt.datetime:
        try:
            return dt.datetime.strptime(text, self._formats[name]).replace(tzinfo=UTC)
        except ValueError as error:
            raise AcdError(ErrorCode.DATE_INVALID, f"{path}: {text} is not a date ({self._formats[name]})") from error
