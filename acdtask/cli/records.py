"""The command `records`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from acdtask.cli.cube_options import Aoi, AsJson, Cube, Limit, open_cube
from acdtask.cli.lazy import command_of, example
from acdtask.cli.output import say, say_json, table
from acdtask.cli.project import taking_aoi
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from datetime import datetime

    from acdtask.cube import model
    from acdtask.cube.model import Record, RecordQuery
    from acdtask.jobs.stacks import RecordChoice

__all__ = ["command", "moment", "tags_of"]


def command() -> TyperCommand:
    """The command."""
    text = (
        "Lists the records of a cube, by date: those that touch an area, have tags, and lie between two dates. A tag "
        "without a value matches any value; values and names may contain * and ?. Dates without a time are whole "
        "days in UTC, and 2021-06 is the whole month. --name, --leave-out, --tag and --track work like --records, "
        "--leave-out, --tags and --track of a baseline."
    )
    return command_of(_records, text + example("acdtask records --cube cube --aoi aoi.json --from 2021-06-01"))


@taking_aoi
def _records(
    cube: Cube,
    aoi: Aoi = "",
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag that the record has; repeatable.")
    ] = None,
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="First date.")] = "",
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="Last date.")] = "",
    name: Annotated[str, typer.Option(metavar="PATTERN", help="Names, with * and ?.")] = "",
    leave_out: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Names to leave out, with * and ?; repeatable.")
    ] = None,
    track: Annotated[str, typer.Option(metavar="TRACK", help="Their track, by tag or by name, such as A015.")] = "",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    from acdtask.cube.aoi import load_aoi
    from acdtask.cube.model import RecordQuery
    from acdtask.jobs.stacks import RecordChoice

    choice = RecordChoice(name, tuple(leave_out or ()), tags_of(tag or []), track)
    query = RecordQuery(
        name=name,
        tags=choice.tags_alone(),
        start=moment(start, "--from") if start else None,
        end=moment(end, "--to", end_of_day=True) if end else None,
        area=_area(aoi) if aoi else None,
    )
    shown, total = _first(open_cube(cube), query, choice, limit)
    if as_json:
        say_json([{"id": record.id, **record.model_dump(mode="json")} for record in shown])
        return
    if shown:
        _show(shown)
    more = f", the first {len(shown)} shown" if len(shown) < total else ""
    where = f" that touch the AOI {load_aoi(aoi).name}" if aoi else ""
    say(f"{total} record{'' if total == 1 else 's'}{where}{more}")


def _area(aoi: str) -> dict[str, Any]:
    """The AOI's geometry as GeoJSON."""
    from shapely.geometry import mapping

    from acdtask.cube.aoi import load_aoi

    return mapping(load_aoi(aoi).geometry)  # type: ignore[no-any-return]  # shapely has no types


def _first(cube: model.Cube, query: RecordQuery, choice: RecordChoice, limit: int) -> tuple[list[Record], int]:
    """The first records that are asked for, and how many are in all."""
    from acdtask.cube.local.cube import LocalCube

    if limit and isinstance(cube, LocalCube) and not (choice.exclude or choice.track or choice.tags != query.tags):
        return cube.records(query.model_copy(update={"limit": limit})), cube.count_records(query)
    found = [one for one in cube.records(query) if choice.matches(one)]
    return found[:limit] if limit else found, len(found)


def _show(records: list[Record]) -> None:
    """The table of records; days and track are shown if a record has them."""
    columns, rows = ("name", "datetime", "days", "track", "tags"), [_row(record) for record in records]
    shown = [k for k, name in enumerate(columns) if name not in ("days", "track") or any(row[k] for row in rows)]
    table([columns[k] for k in shown], [[row[k] for k in shown] for row in rows])


def _row(record: Record) -> tuple[str, ...]:
    """Name, datetime, the days of a pair, track and tags."""
    from acdtask.jobs.stacks import pair_days_of
    from acdtask.jobs.tracks import track_of

    days = pair_days_of(record)
    tags = " ".join(f"{key}={value}" for key, value in sorted(record.tags.items()))
    return record.name, record.datetime.isoformat(), "" if days is None else str(days), track_of(record), tags


def tags_of(texts: list[str]) -> dict[str, str]:
    """Tags from KEY=VALUE or KEY.

    >>> tags_of(["orbit=ascending", "track"])
    {'orbit': 'ascending', 'track': ''}
    """
    tags = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key.strip():
            raise AcdError(ErrorCode.USAGE, f"--tag is {text!r}, and should be KEY=VALUE or KEY")
        tags[key.strip()] = value.strip()
    return tags


def moment(text: str, option: str, *, end_of_day: bool = False) -> datetime:
    """A date or a datetime, in UTC unless it says otherwise; the last moment of a day or month if asked. DATE_INVALID.

    >>> moment("2021-06-01", "--to", end_of_day=True).isoformat()
    '2021-06-01T23:59:59.999999+00:00'
    """
    from acdtask.dates import FORMS, end_of_period, parse_moment

    try:
        return end_of_period(text) if end_of_day else parse_moment(text)
    except ValueError as error:
        raise AcdError(ErrorCode.DATE_INVALID, f"{option} is {text!r}", f"Write {FORMS}.") from error
