"""Parse dates in options, settings files, workflow parameters, filenames, STAC and truth files.

Options, settings files and workflow parameters accept:

- a day: `2020-02-01` or `20200201`, which means 00:00 UTC of that day.
- a month: `2020-02`, which means its first day. The end of a range (`--end`) cannot be a month.
- a time: `2020-02-01T05:26:40Z` or any other RFC 3339 time; also without seconds, without separators
  (`20200201T052640Z`), or with a space instead of the `T`. A time without a zone is UTC.
- in a settings file, a TOML date or time, or the number `20200201` for that day.

Anything else is an error: a year alone, other numbers (never seconds since 1970), and days that are not in the
calendar.

A range includes both ends. Since a day means 00:00 UTC, `--end 2020-02-15` excludes an image taken at 05:26 on that
day: write `--end 2020-02-16`, or the time. `acdtask records --from` and `--to` take whole days and whole months.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

__all__ = [
    "FORMS",
    "Day",
    "LastMoment",
    "Moment",
    "end_of_period",
    "parse_day",
    "parse_last_moment",
    "parse_moment",
    "period_prefix",
]

FORMS = "YYYY-MM-DD, YYYYMMDD or YYYY-MM-DDTHH:MM:SSZ"

_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)|(\d{4})(\d\d)(\d\d)", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_YEAR = re.compile(r"\d{4}", re.ASCII)
_TIME = re.compile(
    r"(?P<day>[\d-]+)[T ]"
    r"(?P<hour>[01]\d|2[0-3])(?::?(?P<minute>[0-5]\d)(?::?(?P<second>[0-5]\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r" ?(?P<zone>Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?",
    re.ASCII,
)


def _pattern(*, month: bool) -> str:
    """A pattern of dates and times as text, for schemas; `month` allows a month too. Years are 1000 to 2999.

    It is short, since messages quote it, so it allows some days and times that do not exist, such as 31 June.

    >>> all(re.fullmatch(_pattern(month=False), text) for text in ("2020-02-29", "20200229T05:26Z"))
    True
    >>> any(re.fullmatch(_pattern(month=False), text) for text in ("2020-13-45", "soon", "2021", "2021-02"))
    False
    """
    months, days = "(0[1-9]|1[0-2])", "(0[1-9]|[12][0-9]|3[01])"
    parts = f"-{months}-{days}|{months}{days}"
    day = f"[12][0-9]{{3}}({parts})([Tt ][0-9:.,]+ ?([Zz]|[-+][0-9:]+)?)?"
    return f"^({day}|[12][0-9]{{3}}-{months})$" if month else f"^{day}$"


def parse_moment(value: object) -> datetime:
    """Parse a date or time to a datetime in UTC. ValueError, with a sentence, for anything else.

    >>> parse_moment("20200201") == parse_moment(20200201) == parse_moment("2020-02-01T01:00+01:00")
    True
    >>> parse_moment("2020")
    Traceback (most recent call last):
    ...
    ValueError: '2020' is not a date; write YYYY-MM-DD, YYYYMMDD or YYYY-MM-DDTHH:MM:SSZ
    """
    if isinstance(value, datetime):
        return _in_utc(value, value)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, int) and not isinstance(value, bool):
        return _first_moment(str(value), value)
    if isinstance(value, str):
        return _of_text(value)
    raise _not_a_date(value)


def parse_last_moment(value: object) -> datetime:
    """Parse the end of a time range, as `parse_moment` does; a month is a ValueError, since its end is ambiguous."""
    if isinstance(value, str) and _MONTH.fullmatch(value.strip()):
        raise ValueError(f"{value.strip()!r} is a month; write the last day, YYYY-MM-DD")
    return parse_moment(value)


def parse_day(value: object) -> date:
    """Parse a day. ValueError for anything that is not a date, and for a time of day.

    >>> parse_day("20200201")
    datetime.date(2020, 2, 1)
    """
    moment = parse_moment(value)
    if moment.time() != time():
        raise ValueError(f"{_shown(value)} is a time; write a day, YYYY-MM-DD")
    return moment.date()


def end_of_period(text: str) -> datetime:
    """Parse a day or month to its last moment; a time stays as it is.

    >>> end_of_period("2020-02").isoformat()
    '2020-02-29T23:59:59.999999+00:00'
    """
    moment, text = parse_moment(text), text.strip()
    if _MONTH.fullmatch(text):
        moment = moment.replace(day=calendar.monthrange(moment.year, moment.month)[1])
    elif not _DAY.fullmatch(text):
        return moment
    return datetime.combine(moment.date(), time.max, UTC)


def period_prefix(text: str) -> str:
    """Parse a year, month or day to the prefix of the ISO texts of its moments. ValueError for anything else.

    >>> period_prefix("20210601"), period_prefix("2021-06"), period_prefix("2021")
    ('2021-06-01', '2021-06', '2021')
    """
    text = text.strip()
    if _YEAR.fullmatch(text):
        return text
    length = len("2021-06") if _MONTH.fullmatch(text) else len("2021-06-01")
    return parse_day(text).isoformat()[:length]


Moment = Annotated[
    datetime, BeforeValidator(parse_moment), WithJsonSchema({"type": "string", "pattern": _pattern(month=True)})
]
"""Type of a setting that is a moment, or the start of a range."""

LastMoment = Annotated[
    datetime, BeforeValidator(parse_last_moment), WithJsonSchema({"type": "string", "pattern": _pattern(month=False)})
]
"""Type of a setting that is the end of a range."""

Day = Annotated[date, BeforeValidator(parse_day)]
"""Type of a setting that is a day."""


def _of_text(value: str) -> datetime:
    text = value.strip().upper()
    match = _TIME.fullmatch(text)
    if match is None:
        return _first_moment(text, value)
    if not _DAY.fullmatch(match["day"]):
        raise _not_a_date(value)
    second = f"{match['second'] or '00'}.{(match['fraction'] or '0')[:6]:0<6}"
    clock = time.fromisoformat(f"{match['hour']}:{match['minute'] or '00'}:{second}")
    moment = datetime.combine(_first_moment(match["day"], value).date(), clock)
    return _in_utc(moment.replace(tzinfo=_zone(match["zone"])), value)


def _first_moment(text: str, value: object) -> datetime:
    match = _DAY.fullmatch(text)
    parts = [part for part in match.groups() if part] if match else []
    if not parts and isinstance(value, str) and (month := _MONTH.fullmatch(text)):
        parts = [*month.groups(), "01"]
    if not parts:
        raise _not_a_date(value)
    try:
        return datetime(int(parts[0]), int(parts[1]), int(parts[2]), tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{_shown(value)} is not a day of the calendar") from None


def _zone(text: str | None) -> timezone:
    if text is None or text == "Z":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _in_utc(moment: datetime, value: object) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{_shown(value)} is not a day of the calendar") from None


def _not_a_date(value: object) -> ValueError:
    return ValueError(f"{_shown(value)} is not a date; write {FORMS}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
