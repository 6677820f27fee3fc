"""The commands `show variables|dataset|patches|fused|cube`."""

from __future__ import annotations

import json
from collections.abc import Sized
from typing import Annotated, Any

import typer

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
from acdtask.cli.lazy import Lazy, LazyGroup, as_command, example
from acdtask.cli.output import say, say_json, table
from acdtask.cli.project import require_aoi, taking_aoi
from acdtask.errors import AcdError, ErrorCode

__all__ = ["group"]


group = LazyGroup(
    name="show",
    lazy={
        "cube": Lazy("Summarise a cube.", f"{__name__}:cube_command"),
        "variables": Lazy("List the variables and their instances.", f"{__name__}:variables_command"),
        "dataset": Lazy("List the files of a variable.", f"{__name__}:dataset_command"),
        "patches": Lazy("List the patches found by monitoring.", f"{__name__}:patches_command"),
        "fused": Lazy("List the patches of fused monitoring results.", f"{__name__}:fused_command"),
    },
    help="Shows the contents of a cube." + example("acdtask show cube --cube cube"),
)


@as_command(
    "Counts the variables, layouts and records of a cube, and shows its first and last date.",
    "acdtask show cube --cube cube",
)
def cube_command(cube: Cube, as_json: AsJson = False, if_any: IfAny = False) -> None:
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


@as_command(
    "Lists the variables of a cube: data type, nodata, valid range, unit and instances.",
    "acdtask show variables --cube cube",
)
def variables_command(cube: Cube, as_json: AsJson = False) -> None:
    opened = open_cube(cube)
    variables = [(each, [instance.name for instance in opened.instances(each.name)]) for each in opened.variables()]
    if as_json:
        say_json([{**variable.model_dump(mode="json"), "instances": names} for variable, names in variables])
        return
    rows = [
        (
            variable.name,
            variable.dformat.dtype,
            f"{variable.dformat.nodata:g}",
            f"{variable.dformat.min:g} to {variable.dformat.max:g}",
            variable.unit or "-",
            ", ".join(names) or "-",
        )
        for variable, names in variables
    ]
    if rows:
        table(("name", "type", "nodata", "range", "unit", "instances"), rows)
    say(f"{len(rows)} variable{'' if len(rows) == 1 else 's'}")


@as_command(
    "Lists the datasets of an instance of a variable: record, file and tile.",
    "acdtask show dataset --cube cube --variable CoherenceVV --instance master",
)
def dataset_command(
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
        say_json([{"record": names.get(dataset.record_id), **dataset.model_dump(mode="json")} for dataset in shown])
        return
    if shown:
        rows = [
            (
                names.get(dataset.record_id, dataset.record_id),
                dataset.uri,
                dataset.cell or "-",
                f"{dataset.grid.width} x {dataset.grid.height}",
            )
            for dataset in shown
        ]
        table(("record", "file", "tile", "pixels"), rows)
    more = f", the first {len(shown)} shown" if len(shown) < len(datasets) else ""
    say(f"{len(datasets)} dataset{'' if len(datasets) == 1 else 's'}{more}")


@as_command(
    "Lists the patches found by monitoring an area. --json prints GeoJSON; --out writes all patches to a file.",
    "acdtask show patches --cube cube --aoi aoi.json --layout utm",
)
@taking_aoi
def patches_command(
    cube: Cube,
    layout: LayoutName,
    aoi: Aoi = "",
    variable: VariableName = "CoherenceVV",
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the monitoring result.")] = "monitor",
    date: Annotated[str, typer.Option(metavar="DATE", help="Only this day, month or year, such as 2021-06-01.")] = "",
    held_back: Annotated[
        bool, typer.Option("--held-back", help="List the candidates that were held back instead, with the reason.")
    ] = False,
    out: Annotated[str, typer.Option(metavar="FILE", help="Write all of them to a .parquet or .geojson file.")] = "",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    from acdtask.cube.aoi import load_aoi
    from acdtask.engine.stages import open_site
    from acdtask.jobs.manifests import find_manifest
    from acdtask.jobs.monitor.findings import sentences_without_patches
    from acdtask.jobs.monitor.months import read_month_patches, read_rejected
    from acdtask.jobs.patch_files import patches_to_geojson, require_format, save_patches
    from acdtask.jobs.products import MonitorManifest

    require_format(out)
    date = _period(date) if date else ""
    store = open_site(cube).store
    title = f"{variable}/{layout}/{name}"
    area = load_aoi(require_aoi(aoi)).name
    try:
        _, body = find_manifest(store, area, "monitor", title, "latest", ErrorCode.MONITOR_UNKNOWN)
    except AcdError as error:
        if error.code is ErrorCode.MONITOR_UNKNOWN and not as_json:
            say("0 patches: no image has been monitored yet")
        raise
    manifest = MonitorManifest.model_validate_json(body)
    months = read_month_patches(manifest, store, date)
    patches = (
        [*read_rejected(manifest, store, date)]
        if held_back
        else [patch for month in months for patch in month if patch.datetime.isoformat().startswith(date)]
    )
    notes = [] if patches or held_back else sentences_without_patches(manifest, date, store)
    if out:
        save_patches(patches, out)
    shown = patches if (out and as_json) or not limit else patches[:limit]
    if as_json:
        say_json({**json.loads(patches_to_geojson(shown)), **({"notes": notes} if notes else {})})
        return
    if shown and not out:
        columns = list(shown[0].properties)
        table(columns, [[_cell(value) for value in patch.properties.values()] for patch in shown])
    more = f", written to {out}" if out else f", the first {len(shown)} shown" if len(shown) < len(patches) else ""
    say(f"{_number_of(patches, 'held-back candidate' if held_back else 'patch')}{more}")
    for line in notes:
        say(line)


@as_command(
    "Lists the patches of fused monitoring results. --json prints GeoJSON; --out writes all of them to a file.",
    "acdtask show fused --cube cube --aoi aoi.json",
)
@taking_aoi
def fused_command(
    cube: Cube,
    aoi: Aoi = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the fusion.")] = "fused",
    held_back: Annotated[
        bool, typer.Option("--held-back", help="List the findings that were not kept instead, with the reason.")
    ] = False,
    out: Annotated[str, typer.Option(metavar="FILE", help="Write all of them to a .parquet or .geojson file.")] = "",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    from acdtask.cube.aoi import load_aoi
    from acdtask.engine.stages import open_site
    from acdtask.jobs.fuse.files import fused_to_geojson, save_fused
    from acdtask.jobs.fuse.months import findings_of
    from acdtask.jobs.fuse.publish import latest_fusion
    from acdtask.jobs.patch_files import require_format

    require_format(out)
    store = open_site(cube).store
    manifest = latest_fusion(store, load_aoi(require_aoi(aoi)).name, name)
    findings = findings_of(manifest.months, store, held_back=held_back)
    if out:
        save_fused(findings, out)
    shown = findings if (out and as_json) or not limit else findings[:limit]
    if as_json:
        say_json(json.loads(fused_to_geojson(shown)))
        return
    if shown and not out:
        table([*shown[0].properties], [[_cell(value) for value in finding.properties.values()] for finding in shown])
    more = f", written to {out}" if out else f", the first {len(shown)} shown" if len(shown) < len(findings) else ""
    say(f"{_number_of(findings, 'held-back finding' if held_back else 'fused patch')}{more}")


def _number_of(rows: Sized, noun: str) -> str:
    ending = "es" if noun.endswith("ch") else "s"
    return f"{len(rows)} {noun}{'' if len(rows) == 1 else ending}"


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
