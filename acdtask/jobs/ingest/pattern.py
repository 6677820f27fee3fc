"""Filename patterns: what a file's name says about its record."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from functools import lru_cache

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.date_format import DateFormat

__all__ = ["RASTER_ENDINGS", "FilenamePattern", "Named", "without_ending"]

FIELD = re.compile(r"\{(?P<name>[a-z_][a-z0-9_]*)(?::(?P<format>[^{}]+))?\}")
DATES = ("date", "start", "end")
WIDTH = re.compile(r"[1-9]\d?", re.ASCII)

GEOTIFF_ENDING = r"\.[Tt][Ii][Ff][Ff]?"
VRT_ENDING = r"\.[Vv][Rr][Tt]"
RASTER_ENDINGS = re.compile(rf"(?:{GEOTIFF_ENDING}|{VRT_ENDING})$")


@dataclass(frozen=True)
class Named:
    """What a filename said: the image's datetime, the first date of a pair if there is one, and tags."""

    datetime: dt.datetime
    start: dt.datetime | None
    tags: dict[str, str] = field(default_factory=dict)


class FilenamePattern:
    """A pattern such as `S1_{start:%Y%m%d}_{end:%Y%m%d}_{polarisation}.tif`.

    `{date}`, or `{start}` and `{end}`, are dates in strftime's language (default `%Y%m%d`; `%b` and `%B` are English
    months, in any case); a pair's datetime is its end. Any other `{name}` becomes a tag, `{name:2}` one of two letters.
    `*` stands for anything within a name. A pattern without `/` is matched with the file's name, one with `/` with the
    end of its path. An ending `.tif` or `.tiff` stands for both, in any case. USAGE errors: SETTING_INVALID.

    >>> pattern = FilenamePattern("S1_{start:%Y%m%d}-{end:%Y%m%d}_{polarisation}_*.tif")
    >>> named = pattern.match("2018/S1_20180106-20180130_VV_cc.TIFF")
    >>> named.datetime.date().isoformat(), named.start.date().isoformat(), named.tags
    ('2018-01-30', '2018-01-06', {'polarisation': 'VV'})
    >>> pattern.match("dem.tif") is None
    True
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._formats: dict[str, DateFormat] = {}
        ending = RASTER_ENDINGS.search(text)
        stem = text[: ending.start()] if ending else text
        parts = self._parts(stem)
        if not {"date", "end"} & self._formats.keys():
            raise AcdError(ErrorCode.SETTING_INVALID, f"the pattern {text!r} has neither {{date}} nor {{end}}")
        self.takes_vrt = bool(ending and re.fullmatch(VRT_ENDING, ending[0]))
        tail = "" if ending is None else VRT_ENDING if self.takes_vrt else GEOTIFF_ENDING
        head = "(?:^|.*/)" if "/" in text else "(?:.*/)?"
        self._folders = text.count("/")
        # A `*` takes as much as it can, or as little: where the two give other dates, the name has several.
        self._most, self._least = (re.compile(f"{head}{_body(parts, lazy)}{tail}$") for lazy in ("", "?"))

    def match(self, path: str) -> Named | None:
        """What the path says, or None if it does not match.

        DATE_INVALID if a date is not one, DATES_OUT_OF_ORDER, FILENAME_AMBIGUOUS if the pattern fits more dates than
        it has fields.
        """
        found = self._most.match(path)
        if found is None:
            return None
        dates = self._dates(found)
        other = self._elsewhere(path, found)
        if other is not None and (others := self._dates(other)) is not None:
            if dates is not None:
                raise self._ambiguous(path, other, [*dates.values(), *others.values()])
            found, dates = other, others
        if dates is None:
            wrong = next(name for name, kind in self._formats.items() if kind.parse(found[name]) is None)
            text = self._formats[wrong].text
            raise AcdError(ErrorCode.DATE_INVALID, f"{path}: {found[wrong]} is not a date ({text})")
        tags = {name: value for name, value in found.groupdict().items() if name not in self._formats}
        start, end = dates.get("start"), dates.get("end", dates.get("date"))
        if end is None:
            raise AcdError(ErrorCode.DATE_INVALID, f"{path} has no date")
        if start is not None and start >= end:
            raise AcdError(
                ErrorCode.DATES_OUT_OF_ORDER, f"{path} starts on {start.date()} and ends on {end.date()}, not after it"
            )
        return Named(end, start, tags)

    def record_name(self, path: str) -> str:
        """The file's name without its ending, and before it the folders that the pattern names.

        >>> FilenamePattern("{start}_{end}/filt_fine.cor.tif").record_name("merged/20200104_20200116/filt_fine.cor.tif")
        '20200104_20200116/filt_fine.cor'
        """
        return without_ending(self._tail(path))

    def _tail(self, path: str) -> str:
        """As many parts of the path as the pattern has."""
        return "/".join(path.split("/")[-(self._folders + 1) :])

    def _dates(self, found: re.Match[str]) -> dict[str, dt.datetime] | None:
        """The dates of a match by field, or None if a field is not a date."""
        dates = {name: kind.parse(found[name]) for name, kind in self._formats.items()}
        good = {name: date for name, date in dates.items() if date is not None}
        return good if len(good) == len(dates) else None

    def _elsewhere(self, path: str, found: re.Match[str]) -> re.Match[str] | None:
        """The first match, if the last one has its dates elsewhere in the path."""
        other = self._least.match(path)
        is_same = other is None or all(other.span(name) == found.span(name) for name in self._formats)
        return None if is_same else other

    def _ambiguous(self, path: str, first: re.Match[str], dates: list[dt.datetime]) -> AcdError:
        every = ", ".join(sorted({date.date().isoformat() for date in dates}))
        return AcdError(
            ErrorCode.FILENAME_AMBIGUOUS,
            f"{path} has more dates than the pattern {self.text!r} has fields, so it is ambiguous: {every}",
            f"Write --pattern so that it says which date is which, such as {self._suggestion(path, first)!r}.",
        )

    def _suggestion(self, path: str, first: re.Match[str]) -> str:
        """A pattern that takes the first dates of a name as its fields, and all later ones for anything."""
        tail = self._tail(path)
        shift = len(path) - len(tail)
        text, position = "", 0
        for name, kind in sorted(self._formats.items(), key=lambda one: first.span(one[0])):
            begin, end = (place - shift for place in first.span(name))
            text += tail[position:begin] + kind.field(name)
            position = end
        ending = RASTER_ENDINGS.search(tail)
        rest = tail[position : ending.start() if ending else len(tail)]
        if self._formats.keys() == {"date"} and (second := re.search(self._formats["date"].regex, rest)):
            text = text.replace("{date", "{start") + rest[: second.start()] + self._formats["date"].field("end")
            rest = rest[second.end() :]
        kinds = "|".join(dict.fromkeys(f"(?:{kind.regex})" for kind in self._formats.values()))
        return text + re.sub(kinds, "*", rest) + (ending[0] if ending else "")

    def _parts(self, text: str) -> list[str]:
        """Regular expressions in turn; `*` stays `*`."""
        parts: list[str] = []
        position = 0
        for found in FIELD.finditer(text):
            parts += self._literal(text[position : found.start()])
            parts.append(self._field(found["name"], found["format"]))
            position = found.end()
        return parts + self._literal(text[position:])

    def _literal(self, text: str) -> list[str]:
        if "{" in text or "}" in text:
            raise AcdError(ErrorCode.SETTING_INVALID, f"the pattern {self.text!r} has a brace that is not a {{field}}")
        return [part if part == "*" else re.escape(part) for part in re.split(r"(\*)", text) if part]

    def _field(self, name: str, date_format: str | None) -> str:
        if name not in DATES:
            if date_format and not WIDTH.fullmatch(date_format):
                raise AcdError(
                    ErrorCode.SETTING_INVALID,
                    f"{{{name}:{date_format}}} is neither a date nor a tag with a number of letters, as {{{name}:2}}",
                )
            return f"(?P<{name}>[^/_]{{{date_format}}})" if date_format else f"(?P<{name}>[^/_]+)"
        self._formats[name] = _date_format(name, date_format or "%Y%m%d")
        return f"(?P<{name}>{self._formats[name].regex})"


def without_ending(path: str) -> str:
    """A path without its last ending, as `Path.stem` cuts it."""
    folder, slash, name = path.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return folder + slash + (stem if dot and stem else name)


def _body(parts: list[str], lazy: str) -> str:
    """The parts as one regular expression. A date beside `*` is not a piece of a longer number."""
    body = ""
    for place, part in enumerate(parts):
        is_date = part.startswith(tuple(f"(?P<{name}>" for name in DATES))
        before = r"(?<!\d)" if is_date and place and parts[place - 1] == "*" else ""
        after = r"(?!\d)" if is_date and parts[place + 1 : place + 2] == ["*"] else ""
        body += f"[^/]*{lazy}" if part == "*" else before + part + after
    return body


@lru_cache(maxsize=64)
def _date_format(name: str, text: str) -> DateFormat:
    try:
        return DateFormat(text)
    except ValueError as error:
        raise AcdError(ErrorCode.SETTING_INVALID, f"{{{name}:{text}}} {error}") from error
