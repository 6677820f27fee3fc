"""The commands `show variables|dataset|patches|cube`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from acdtask.cli.cube_options import (
    Aoi,
    AsJson,
    Cube,
    IfAny,
    InstanceName,
    LayoutName,
    Limit,
    VariableName,
    open_cube,
    say_no_cube,
)
from acdtask.cli.lazy import CONTEXT, Lazy, LazyGroup, command_of, example
from acdtask.cli.output import say, say_json, table
from acdtask.cli.project import require_aoi, taking_aoi
from acdtask.errors import AcdError, ErrorCode

__all__ = ["cube_command", "dataset_command", "group", "patches_command", "variables_command"]


def group() -> LazyGroup:
    """The commands."""
    return LazyGroup(
        name="show",
        lazy={
            "cube": Lazy("Show what is in a cube, in a few lines.", f"{__name__}:cube_command"),
            "variables": Lazy("List the variables and their instances.", f"{__name__}:variables_command"),
            "dataset": Lazy("List the files of a variable.", f"{__name__}:dataset_command"),
            "patches": Lazy("List the patches that monitoring found.", f"{__name__}:patches_command"),
        },
        help="Shows the contents of a cube." + example("acdtask show cube --cube cube"),
        context_settings=CONTEXT,
    )


def cube_command() -> TyperCommand:
    """The command `show cube`."""
    text = "Counts the variables, layouts and records of a cube, and gives its first and last date."
    return command_of(_cube, text + example("acdtask show cube --cube cube"))


def variables_command() -> TyperCommand:
    """The command `show variables`."""
    text = "Lists the variables of a cube: data type, nodata, valid range, unit and instances."
    return command_of(_variables, text + example("acdtask show variables --cube cube"))


def dataset_command() -> TyperCommand:
    """The command `show dataset`."""
    text = "Lists the datasets of a variable's instance: the record, the file that holds its pixels, and the tile."
    return command_of(
        _dataset, text + example("acdtask show dataset --cube cube --variable CoherenceVV --instance master")
    )


def patches_command() -> TyperCommand:
    """The command `show patches`."""
    text = (
        "Lists the patches that monitoring found in an area. --json prints GeoJSON; --out writes all of them to a file."
    )
    return command_of(_patches, text + example("acdtask show patches --cube cube --aoi aoi.json --layout utm"))


def _cube(cube: Cube, as_json: AsJson = False, if_any: IfAny = False) -> None:
    from acdtask.cube.model import RecordQuery
    from acdtask.cube.shared import named_in_environment

    try:
        opened = open_cube(cube)
    except AcdError as error:
        say_no_cube(error, cube, if_any=if_any, as_json=as_json)
        return
    records = opened.records(RecordQuery())
    facts: dict[str, Any] = {
        "address": cube,
        **({"geocube": geocube} if (geocube := named_in_environment()) else {}),
        "variables": len(opened.variables()),
        "layouts": len(opened.layouts()),
        "records": len(records),
        "first": records[0].datetime.isoformat() if records else None,
        "last": records[-1].datetime.isoformat() if records else None,
    }
    if as_json:
        say_json(facts)
    else:
        table(("cube", ""), [(name, "-" if fact is None else fact) for name, fact in facts.items()])


def _variables(cube: Cube, as_json: AsJson = False) -> None:
    opened = open_cube(cube)
    found = [(one, [instance.name for instance in opened.instances(one.name)]) for one in opened.variables()]
    if as_json:
        say_json([{**one.model_dump(mode="json"), "instances": instances} for one, instances in found])
        return
    rows = [
        (
            one.name,
            one.dformat.dtype,
            f"{one.dformat.nodata:g}",
            f"{one.dformat.min:g} to {one.dformat.max:g}",
            one.unit or "-",
            ", ".join(instances) or "-",
        )
        for one, instances in found
    ]
    if rows:
        table(("name", "type", "nodata", "range", "unit", "instances"), rows)
    say(f"{len(rows)} variable{'' if len(rows) == 1 else 's'}")


def _dataset(
    cube: Cube,
    variable: VariableName,
    instance: InstanceName = "master",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    from acdtask.cube.model import RecordQuery

    opened = open_cube(cube)
    datasets = opened.datasets(variable, instance)
    names = {record.id: record.name for record in opened.records(RecordQuery())}
    shown = datasets[:limit] if limit else datasets
    if as_json:
        say_json([{"record": names.get(one.record_id), **one.model_dump(mode="json")} for one in shown])
        return
    if shown:
        rows = [
            (names.get(one.record_id, one.record_id), one.uri, one.cell or "-", f"{one.grid.width} x {one.grid.height}")
            for one in shown
        ]
        table(("record", "file", "tile", "pixels"), rows)
    more = f", the first {len(shown)} shown" if len(shown) < len(datasets) else ""
    say(f"{len(datasets)} dataset{'' if len(datasets) == 1 else 's'}{more}")


@taking_aoi
def _patches(
    cube: Cube,
    layout: LayoutName,
    aoi: Aoi = "",
    variable: VariableName = "CoherenceVV",
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the monitoring result.")] = "monitor",
    date: Annotated[str, typer.Option(metavar="DATE", help="Only this date, month or year: 2021-06-01.")] = "",
    out: Annotated[str, typer.Option(metavar="FILE", help="Write all of them to a .parquet or .geojson file.")] = "",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    from acdtask.cube.aoi import load_aoi
    from acdtask.engine.stages import open_site
    from acdtask.jobs.monitor.findings import sentences_without_patches
    from acdtask.jobs.monitor.months import read_month_patches
    from acdtask.jobs.patches import patches_to_geojson, require_format, save_patches
    from acdtask.jobs.products import MonitorManifest, find_manifest

    require_format(out)
    date = _period(date) if date else ""
    store = open_site(cube).store
    wanted = f"{variable}/{layout}/{name}"
    area = load_aoi(require_aoi(aoi)).name
    try:
        _, body = find_manifest(store, area, "monitor", wanted, "latest", ErrorCode.MONITOR_UNKNOWN)
    except AcdError as error:
        if error.code is ErrorCode.MONITOR_UNKNOWN and not as_json:
            say("0 patches: no image was monitored yet")
        raise
    manifest = MonitorManifest.model_validate_json(body)
    months = read_month_patches(manifest, store, date)
    found = [one for month in months for one in month if one.datetime.isoformat().startswith(date)]
    why_none = [] if found else sentences_without_patches(manifest, date, store)
    if out:
        save_patches(found, out)
    shown = found if (out and as_json) or not limit else found[:limit]
    if as_json:
        say_json({**json.loads(patches_to_geojson(shown)), **({"notes": why_none} if why_none else {})})
        return
    if shown and not out:
        columns = list(shown[0].properties)
        table(columns, [[_cell(value) for value in one.properties.values()] for one in shown])
    more = f", written to {out}" if out else f", the first {len(shown)} shown" if len(shown) < len(found) else ""
    say(f"{len(found)} patch{'' if len(found) == 1 else 'es'}{more}")
    for line in why_none:
        say(line)


def _period(text: str) -> str:
    from acdtask.dates import period_prefix

    try:
        return period_prefix(text)
    except ValueError as error:
        raise AcdError(
            ErrorCode.DATE_INVALID, f"--date is {text!r}", "Write a day, a month or a year: 2021-06-01, 2021-06, 2021."
        ) from error


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
