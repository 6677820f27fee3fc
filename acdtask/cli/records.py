"""The command `records`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from acdtask.cli.cube_options import Aoi, AsJson, Cube, Limit, open_cube
from acdtask.cli.lazy import as_command
from acdtask.cli.output import say, say_json, table
from acdtask.cli.project import taking_aoi
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from datetime import datetime

    from acdtask.cube import model
    from acdtask.cube.model import Record, RecordQuery
    from acdtask.jobs.stacks import RecordChoice

__all__ = ["command", "moment", "tags_of"]


@as_command(
    "Lists the records of a cube by date, filtered by area, dates, tags, name and track. A tag without a value "
    "matches any value; values and names may contain * and ?. Dates without a time are whole days in UTC; 2021-06 "
    "is the whole month. --name, --leave-out, --tag and --track select as --records, --leave-out, --tags and "
    "--track of a baseline do.",
    "acdtask records --cube cube --aoi aoi.json --from 2021-06-01",
)
@taking_aoi
def command(
    cube: Cube,
    aoi: Aoi = "",
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Tag of the records.  [repeatable]")
    ] = None,
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="First date.")] = "",
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="Last date.")] = "",
    name: Annotated[str, typer.Option(metavar="PATTERN", help="Pattern of names, with * and ?.")] = "",
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Pattern of names to exclude, with * and ?.  [repeatable]"),
    ] = None,
    track: Annotated[
        str, typer.Option(metavar="TRACK", help="Track of the records, such as A015, from a tag or the name.")
    ] = "",
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
        area=load_aoi(aoi).geojson if aoi else None,
    )
    shown, total = _first(open_cube(cube), query, choice, limit)
    if as_json:
        say_json([{"id": record.id, **record.model_dump(mode="json")} for record in shown])
        return
    if shown:
        _show(shown)
    more = f", the first {len(shown)} shown" if len(shown) < total else ""
    area = f" that touch the AOI {load_aoi(aoi).name}" if aoi else ""
    say(f"{total} record{'' if total == 1 else 's'}{area}{more}")


def _first(cube: model.Cube, query: RecordQuery, choice: RecordChoice, limit: int) -> tuple[list[Record], int]:
    """Find the first matching records, and the total number of matches."""
    from acdtask.cube.local.cube import LocalCube

    if limit and isinstance(cube, LocalCube) and not (choice.exclude or choice.track or choice.tags != query.tags):
        return cube.records(query.model_copy(update={"limit": limit})), cube.count_records(query)
    records = [record for record in cube.records(query) if choice.matches(record)]
    return records[:limit] if limit else records, len(records)


def _show(records: list[Record]) -> None:
    """Print the table of records, with the columns days and track only if some record has a value."""
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
    """Parse tags given as KEY=VALUE or KEY.

    >>> tags_of(["orbit=ascending", "track"])
    {'orbit': 'ascending', 'track': ''}
    """
    tags = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key.strip():
            raise AcdError(ErrorCode.USAGE, f"--tag is {text!r}, but must be KEY=VALUE or KEY")
        tags[key.strip()] = value.strip()
    return tags


def moment(text: str, option: str, *, end_of_day: bool = False) -> datetime:
    """Parse a date or datetime, by default in UTC; with `end_of_day` to the end of a day or month. DATE_INVALID.

    >>> moment("2021-06-01", "--to", end_of_day=True).isoformat()
    '2021-06-01T23:59:59.999999+00:00'
    """
    from acdtask.dates import FORMS, end_of_period, parse_moment

    try:
        return end_of_period(text) if end_of_day else parse_moment(text)
    except ValueError as error:
        raise AcdError(ErrorCode.DATE_INVALID, f"{option} is {text!r}", f"Write {FORMS}.") from error
