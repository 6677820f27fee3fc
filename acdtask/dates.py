"""Dates: one parser for options, settings files, parameters of workflows, filenames, STAC and truth files.

Options, settings files and workflow parameters take:

- a day: `2020-02-01` or `20200201`. It means 00:00 UTC of that day.
- a month: `2020-02`. It means its first day. The end of a range (`--end`) takes no month.
- a time: `2020-02-01T05:26:40Z` and whatever else RFC 3339 allows; also without seconds, without separators
  (`20200201T052640Z`), or with a space instead of the `T`. A time without a zone is UTC.
- in a settings file, a TOML date or time, and the number `20200201`, which is that day.

Everything else is refused: a year alone, other numbers (they are never seconds since 1970), and days that are not in
the calendar.

A range includes both of its ends. Since a day is its 00:00 UTC, `--end 2020-02-15` leaves out an image of that day at
05:26: write `--end 2020-02-16`, or the time. `acdtask records --from` and `--to` take whole days and whole months.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Annotated

from pydantic import BeforeValidator

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


def parse_moment(value: object) -> datetime:
    """The moment that a value means, in UTC. ValueError with a sentence for anything that is not a date.

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
    raise _refused(value)


def parse_last_moment(value: object) -> datetime:
    """The end of a time range: as `parse_moment`, but a month is refused, since its first day is not what it says."""
    if isinstance(value, str) and _MONTH.fullmatch(value.strip()):
        raise ValueError(f"{value.strip()!r} is a month; write the last day, YYYY-MM-DD")
    return parse_moment(value)


def parse_day(value: object) -> date:
    """The day that a value means. ValueError for anything that is not a date, and for a time of day.

    >>> parse_day("20200201")
    datetime.date(2020, 2, 1)
    """
    moment = parse_moment(value)
    if moment.time() != time():
        raise ValueError(f"{_shown(value)} is a time; write a day, YYYY-MM-DD")
    return moment.date()


def end_of_period(text: str) -> datetime:
    """The last moment of the day or month that a text names, or the moment that it gives.

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
    """How the ISO texts of the moments in a year, a month or a day begin. ValueError for anything else.

    >>> period_prefix("20210601"), period_prefix("2021-06"), period_prefix("2021")
    ('2021-06-01', '2021-06', '2021')
    """
    text = text.strip()
    if _YEAR.fullmatch(text):
        return text
    length = len("2021-06") if _MONTH.fullmatch(text) else len("2021-06-01")
    return parse_day(text).isoformat()[:length]


Moment = Annotated[datetime, BeforeValidator(parse_moment)]
"""A setting that is a moment, or the start of a range."""

LastMoment = Annotated[datetime, BeforeValidator(parse_last_moment)]
"""A setting that is the end of a range."""

Day = Annotated[date, BeforeValidator(parse_day)]
"""A setting that is a day."""


def _of_text(value: str) -> datetime:
    text = value.strip().upper()
    found = _TIME.fullmatch(text)
    if found is None:
        return _first_moment(text, value)
    if not _DAY.fullmatch(found["day"]):
        raise _refused(value)
    second = f"{found['second'] or '00'}.{(found['fraction'] or '0')[:6]:0<6}"
    clock = time.fromisoformat(f"{found['hour']}:{found['minute'] or '00'}:{second}")
    moment = datetime.combine(_first_moment(found["day"], value).date(), clock)
    return _in_utc(moment.replace(tzinfo=_zone(found["zone"])), value)


def _first_moment(text: str, value: object) -> datetime:
    found = _DAY.fullmatch(text)
    parts = [part for part in found.groups() if part] if found else []
    if not parts and isinstance(value, str) and (month := _MONTH.fullmatch(text)):
        parts = [*month.groups(), "01"]
    if not parts:
        raise _refused(value)
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


def _refused(value: object) -> ValueError:
    return ValueError(f"{_shown(value)} is not a date; write {FORMS}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
