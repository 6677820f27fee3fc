"""Dates in filenames, as strftime formats; month names are English whatever the locale."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from datetime import UTC

__all__ = ["DateFormat"]

MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
ABBREVIATIONS = tuple(month[:3] for month in MONTHS)

DIRECTIVES = {
    "%Y": r"\d{4}",
    "%m": r"\d{2}",
    "%d": r"\d{2}",
    "%H": r"\d{2}",
    "%M": r"\d{2}",
    "%S": r"\d{2}",
    "%j": r"\d{3}",
    "%y": r"\d{2}",
    "%b": f"(?i:{'|'.join(ABBREVIATIONS)})",
    "%B": f"(?i:{'|'.join(MONTHS)})",
}
CENTURY_STARTS = 69
"""%y: 69 to 99 mean 1969 to 1999, as for strptime."""


class DateFormat:
    """A date format such as `%Y%m%d` or `%d%b%Y`. ValueError for an unknown directive or a missing year.

    `regex` is a regular expression that matches such a date.

    >>> DateFormat("%d%b%Y").parse("04JUN2020").isoformat()
    '2020-06-04T00:00:00+00:00'
    >>> DateFormat("%Y%m%d").parse("20200230") is None
    True
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._directives: list[str] = []
        body = grouped = ""
        for piece in re.split(r"(%.?)", text):
            if not piece.startswith("%"):
                body, grouped = body + re.escape(piece), grouped + re.escape(piece)
                continue
            if piece not in DIRECTIVES:
                raise ValueError(f"has a directive other than {' '.join(DIRECTIVES)}")
            self._directives.append(piece)
            body += DIRECTIVES[piece]
            grouped += f"({DIRECTIVES[piece]})"
        given = set(self._directives)
        if not given & {"%Y", "%y"}:
            raise ValueError("has no year (%Y)")
        if given & {"%d"} and not given & {"%m", "%b", "%B"}:
            raise ValueError("has a day (%d) but no month (%m)")
        self.regex = body
        self._grouped = re.compile(grouped, re.ASCII)

    def parse(self, text: str) -> dt.datetime | None:
        """Parse a date, in UTC; None if it is invalid."""
        match = self._grouped.fullmatch(text)
        if match is None:
            return None
        values = dict(zip(self._directives, match.groups(), strict=True))
        try:
            day = _day_of(values)
            hour, minute, second = (int(values.get(directive, 0)) for directive in ("%H", "%M", "%S"))
            clock = dt.time(hour, minute, second)
        except ValueError:
            return None
        return dt.datetime.combine(day, clock, UTC)

    def field(self, name: str) -> str:
        """The pattern field with this format, such as `{date:%Y%j}`."""
        return f"{{{name}}}" if self.text == "%Y%m%d" else f"{{{name}:{self.text}}}"


def _day_of(values: dict[str, str]) -> dt.date:
    short = int(values.get("%y", 0))
    year = int(values["%Y"]) if "%Y" in values else short + (1900 if short >= CENTURY_STARTS else 2000)
    if "%j" in values:
        number = int(values["%j"])
        if not 1 <= number <= 365 + calendar.isleap(year):
            raise ValueError("no such day of the year")
        return dt.date(year, 1, 1) + dt.timedelta(days=number - 1)
    return dt.date(year, _month_of(values), int(values.get("%d", 1)))


def _month_of(values: dict[str, str]) -> int:
    if "%m" in values:
        return int(values["%m"])
    for directive in ("%b", "%B"):
        if directive in values:
            return ABBREVIATIONS.index(values[directive].lower()[:3]) + 1
    return 1
