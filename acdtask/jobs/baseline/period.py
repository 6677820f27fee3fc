"""The period of a baseline: the requested one, or the first year of the images."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from acdtask.errors import AcdError, ErrorCode

__all__ = ["period_of", "period_text", "year_after"]

FEBRUARY, LEAP_DAY = 2, 29


def period_of(
    start: datetime | None, end: datetime | None, images: Sequence[datetime], area: str
) -> tuple[datetime, datetime]:
    """First and last datetime of the baseline.

    Without a start, it begins with the first image. Without an end, it ends a year after its first image, and a later
    image must exist: a baseline that could still grow would change with every image.

    Args:
        start: requested start, or None.
        end: requested end, or None.
        images: sorted datetimes of the images from `start` to `end`; at least one.
        area: name of the area, for messages.

    Raises:
        AcdError: BASELINE_PERIOD_OPEN.

    >>> from datetime import UTC
    >>> monthly = [datetime(2020, month, 1, tzinfo=UTC) for month in range(1, 13)]
    >>> [moment.isoformat() for moment in period_of(None, None, [*monthly, datetime(2021, 1, 1, tzinfo=UTC)], "koln")]
    ['2020-01-01T00:00:00+00:00', '2020-12-31T23:59:59.999999+00:00']
    """
    first, last = images[0], images[-1]
    if end is not None:
        return start or first, end
    next_year = year_after(first)
    if last < next_year:
        raise AcdError(
            ErrorCode.BASELINE_PERIOD_OPEN,
            f"the {len(set(images))} images of {area} span {first.date()} to {last.date()}; a baseline of the first "
            f"year needs an image to monitor on {next_year.date()} or later",
        )
    return start or first, next_year - timedelta(microseconds=1)


def year_after(moment: datetime) -> datetime:
    """The same day of the next year; 1 March for 29 February.

    >>> year_after(datetime(2020, 2, 29)).date().isoformat()
    '2021-03-01'
    """
    if moment.month == FEBRUARY and moment.day == LEAP_DAY:
        return moment.replace(year=moment.year + 1, month=FEBRUARY + 1, day=1)
    return moment.replace(year=moment.year + 1)


def period_text(start: datetime, end: datetime, *, by_default: bool) -> str:
    """The period as text, with the reason if it is the default.

    >>> period_text(datetime(2020, 1, 1), datetime(2020, 12, 31, 23, 59), by_default=True)
    '2020-01-01 to 2020-12-31, the first year of the images; later ones are monitored'
    """
    why = ", the first year of the images; later ones are monitored" if by_default else ""
    return f"{start.date()} to {end.date()}{why}"
