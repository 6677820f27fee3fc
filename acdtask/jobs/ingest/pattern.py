"""Filename patterns, which parse dates and tags from filenames."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from functools import lru_cache

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.date_format import DateFormat

__all__ = ["RASTER_ENDINGS", "FilenamePattern", "ParsedName", "without_ending"]

FIELD = re.compile(r"\{(?P<name>[a-z_][a-z0-9_]*)(?::(?P<format>[^{}]+))?\}")
DATES = ("date", "start", "end")
WIDTH = re.compile(r"[1-9]\d?", re.ASCII)

GEOTIFF_ENDING = r"\.[Tt][Ii][Ff][Ff]?"
VRT_ENDING = r"\.[Vv][Rr][Tt]"
RASTER_ENDINGS = re.compile(rf"(?:{GEOTIFF_ENDING}|{VRT_ENDING})$")


@dataclass(frozen=True)
class ParsedName:
    """A parsed filename: the image's datetime, the first date of a pair or None, and tags."""

    datetime: dt.datetime
    start: dt.datetime | None
    tags: dict[str, str] = field(default_factory=dict)


class FilenamePattern:
    """A pattern such as `S1_{start:%Y%m%d}_{end:%Y%m%d}_{polarisation}.tif`.

    `{date}`, or `{start}` and `{end}`, are dates in strftime formats (default `%Y%m%d`; `%b` and `%B` are English
    months in any case); a pair's datetime is its end. Any other `{name}` becomes a tag, `{name:2}` one of two letters.
    `*` matches anything except `/`. A pattern without `/` is matched against the file's name, one with `/` against the
    end of its path. `.tif` and `.tiff` match each other, in any case. SETTING_INVALID if the pattern is invalid.

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
        # `*` matches greedily in one and lazily in the other. If their dates differ, the name is ambiguous.
        self._most, self._least = (re.compile(f"{head}{_body(parts, lazy)}{tail}$") for lazy in ("", "?"))

    def match(self, path: str) -> ParsedName | None:
        """Parse a path; None if it does not match.

        DATE_INVALID, DATES_OUT_OF_ORDER, or FILENAME_AMBIGUOUS if the name has more dates than the pattern has fields.
        """
        match = self._most.match(path)
        if match is None:
            return None
        dates = self._dates(match)
        other_match = self._other_match(path, match)
        if other_match is not None and (other_dates := self._dates(other_match)) is not None:
            if dates is not None:
                raise self._ambiguous(path, other_match, [*dates.values(), *other_dates.values()])
            match, dates = other_match, other_dates
        if dates is None:
            invalid = next(name for name, kind in self._formats.items() if kind.parse(match[name]) is None)
            text = self._formats[invalid].text
            raise AcdError(ErrorCode.DATE_INVALID, f"{path}: {match[invalid]} is not a date ({text})")
        tags = {name: value for name, value in match.groupdict().items() if name not in self._formats}
        start, end = dates.get("start"), dates.get("end", dates.get("date"))
        if end is None:
            raise AcdError(ErrorCode.DATE_INVALID, f"{path} has no date")
        if start is not None and start >= end:
            raise AcdError(
                ErrorCode.DATES_OUT_OF_ORDER, f"{path} starts on {start.date()} but ends on {end.date()}, not after it"
            )
        return ParsedName(end, start, tags)

    def record_name(self, path: str) -> str:
        """The file's name without its ending, preceded by the folders that the pattern includes.

        >>> FilenamePattern("{start}_{end}/filt_fine.cor.tif").record_name("merged/20200104_20200116/filt_fine.cor.tif")
        '20200104_20200116/filt_fine.cor'
        """
        return without_ending(self._tail(path))

    def _tail(self, path: str) -> str:
        """The last parts of the path, as many as the pattern has."""
        return "/".join(path.split("/")[-(self._folders + 1) :])

    def _dates(self, match: re.Match[str]) -> dict[str, dt.datetime] | None:
        """The dates of a match by field, or None if any is invalid."""
        dates = {name: kind.parse(match[name]) for name, kind in self._formats.items()}
        valid = {name: date for name, date in dates.items() if date is not None}
        return valid if len(valid) == len(dates) else None

    def _other_match(self, path: str, match: re.Match[str]) -> re.Match[str] | None:
        """The lazy match, if it finds the dates elsewhere in the path than the greedy one."""
        other = self._least.match(path)
        is_same = other is None or all(other.span(name) == match.span(name) for name in self._formats)
        return None if is_same else other

    def _ambiguous(self, path: str, first: re.Match[str], dates: list[dt.datetime]) -> AcdError:
        every = ", ".join(sorted({date.date().isoformat() for date in dates}))
        return AcdError(
            ErrorCode.FILENAME_AMBIGUOUS,
            f"{path} has more dates than the pattern {self.text!r} has fields, so it is ambiguous: {every}",
            f"Write a --pattern that says which date is which, such as {self._suggestion(path, first)!r}.",
        )

    def _suggestion(self, path: str, first: re.Match[str]) -> str:
        """A pattern that takes the first dates of a name as its fields and ignores later ones."""
        tail = self._tail(path)
        shift = len(path) - len(tail)
        text, position = "", 0
        for name, kind in sorted(self._formats.items(), key=lambda field: first.span(field[0])):
            begin, end = (offset - shift for offset in first.span(name))
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
        """Regular expressions of the pattern's parts, in order; `*` stays `*`."""
        parts: list[str] = []
        position = 0
        for match in FIELD.finditer(text):
            parts += self._literal(text[position : match.start()])
            parts.append(self._field(match["name"], match["format"]))
            position = match.end()
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
                    f"{{{name}:{date_format}}} is neither a date nor a tag of fixed length, such as {{{name}:2}}",
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
    """Join the parts into one regular expression. A date beside `*` must not be part of a longer number."""
    body = ""
    for index, part in enumerate(parts):
        is_date = part.startswith(tuple(f"(?P<{name}>" for name in DATES))
        before = r"(?<!\d)" if is_date and index and parts[index - 1] == "*" else ""
        after = r"(?!\d)" if is_date and parts[index + 1 : index + 2] == ["*"] else ""
        body += f"[^/]*{lazy}" if part == "*" else before + part + after
    return body


@lru_cache(maxsize=64)
def _date_format(name: str, text: str) -> DateFormat:
    try:
        return DateFormat(text)
    except ValueError as error:
        raise AcdError(ErrorCode.SETTING_INVALID, f"{{{name}:{text}}} {error}") from error
