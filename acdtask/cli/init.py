"""The command `init`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from acdtask.cli.lazy import command_of, example
from acdtask.cli.output import say, write_text
from acdtask.cli.project import AREA_OPTIONS
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.jobs.ingest.settings import IngestSettings
    from acdtask.project.starter import Seen

__all__ = ["command"]

CubeToBe = Annotated[str, typer.Option("--cube", metavar="ADDRESS", help="Folder or s3://bucket/prefix of the cube.")]
LayoutToBe = Annotated[str, typer.Option("--layout", metavar="NAME", help="Name of the layout.")]
BaselineStart = Annotated[str, typer.Option("--baseline-start", metavar="DATE", help="First date of the baseline.")]
BaselineEnd = Annotated[
    str,
    typer.Option("--baseline-end", metavar="DATE", help="Last date of the baseline.  [default: after a year]"),
]
Out = Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder or s3:// address of the report.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing acd.toml.")]

TOP = ("aoi", "variable", "instance")
"""The settings of an ingest that all jobs share."""


def command() -> TyperCommand:
    """The command."""
    from acdtask.cli.options import options_of
    from acdtask.jobs.ingest.settings import IngestSettings

    own: dict[str, tuple[Any, Any]] = {
        "cube": (CubeToBe, "cube"),
        "layout": (LayoutToBe, "images"),
        "baseline_start": (BaselineStart, ""),
        "baseline_end": (BaselineEnd, ""),
        "out": (Out, "report"),
        "force": (Force, False),
    }
    parameters = [
        *(option.parameter() for option in options_of(IngestSettings)),
        *(_parameter(name, option, None) for name, option in AREA_OPTIONS.items()),
        *(_parameter(name, option, default) for name, (option, default) in own.items()),
    ]

    def function(**values: Any) -> None:
        _init(**values)

    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect reads it
    function.__annotations__ = {one.name: one.annotation for one in parameters}
    text = (
        "Writes acd.toml into this folder: where the images are, the area, the baseline, thresholds, cube and report, "
        "each with a comment. It looks at the images and fills in what it sees; without --source it looks for "
        "GeoTIFFs in this folder. Settings that are given as options are written into the file. Edit it, then run "
        "'acdtask watch'."
    )
    return command_of(
        function,
        text + example("acdtask init --source images", "acdtask init --source images --aoi area.geojson --force"),
        (),
    )


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _init(
    *, cube: str, layout: str, baseline_start: str, baseline_end: str, out: str, force: bool, **given: Any
) -> None:
    from acdtask.project.config import AREA, FILE
    from acdtask.project.starter import Seen, starter_text

    file = Path(FILE)
    if not force and (file.exists() or file.is_symlink()):
        raise AcdError(ErrorCode.PROJECT_EXISTS, f"{file} is in this folder already")
    area = {name: given.pop(name) for name in AREA if given.get(name)}
    options = {name: value for name, value in given.items() if value is not None and name not in AREA}
    settings, told, seen = _ingest(options)
    values = settings.model_dump(mode="json", include=set(options) | {"source", "pattern"})
    shared = {"cube": cube, **_area(area, seen), "layout": layout}
    shared |= {name: getattr(settings, name) for name in TOP if name != "aoi"}
    sections = {
        "ingest": {name: value for name, value in values.items() if name not in TOP},
        "baseline": {
            name: value for name, value in (("start", baseline_start), ("end", baseline_end)) if value.strip()
        },
        "report": {"out": out},
    }
    write_text(file, starter_text(shared, sections, settings.source, seen))
    for line in [*told, *(seen.sentences(settings.source) if isinstance(seen, Seen) else [_why(seen)])]:
        say(line)
    say(f"{file} is written. Look through it, then: acdtask watch --plan")


def _why(seen: AcdError) -> str:
    return f"no image could be looked at yet: {seen}"


def _ingest(options: dict[str, Any]) -> tuple[IngestSettings, list[str], Seen | AcdError]:
    """The settings of the ingest, guessed where they are not given; what was guessed, and what was seen with them."""
    from acdtask.cli.options import settings_from
    from acdtask.jobs.ingest.settings import IngestSettings
    from acdtask.project.starter import guess_pattern, guess_source
    from acdtask.storage.web_address import SIGNED_SOURCE, signed_source

    told: list[str] = []
    if not options.get("source"):
        source = guess_source(Path())
        told.append(f"source: {source}, where most GeoTIFFs are" if source else "source: images, a folder to be filled")
        options = {**options, "source": source or "images"}
    settings = settings_from(IngestSettings, options)
    if signed_source(settings.source) != settings.source:
        told.append(
            f"the query of {settings.source} may be a signature and is not written: set {SIGNED_SOURCE} to the whole "
            "address before you run acdtask watch"
        )
    seen = _look(settings)
    if "pattern" not in options and isinstance(seen, AcdError):
        try:
            pattern = guess_pattern(settings.source)
        except AcdError:  # the error of looking is the one that is told
            pattern = ""
        if pattern:
            guessed = settings_from(IngestSettings, {**options, "pattern": pattern})
            seen_with_it = _look(guessed)
            if not isinstance(seen_with_it, AcdError):
                return guessed, [*told, f"pattern: {pattern}, from the filenames"], seen_with_it
    return settings, told, seen


def _look(settings: IngestSettings) -> Seen | AcdError:
    from acdtask.project.starter import look

    try:
        return look(settings)
    except AcdError as error:
        return error


def _area(area: dict[str, Any], seen: Seen | AcdError) -> dict[str, Any]:
    """The area as it was given, checked; else all that the images cover. What `chosen_aoi` raises."""
    from acdtask.cube.aoi import load_aoi
    from acdtask.project.config import chosen_aoi
    from acdtask.project.starter import Seen, area_name

    shared = dict(area)
    if "bbox" in area:
        numbers = str(area["bbox"]).replace(",", " ").split()
        shared.setdefault("aoi_name", area_name(Path()))
    elif "aoi" not in area and isinstance(seen, Seen):
        shared["bbox"] = list(seen.bbox)
        shared.setdefault("aoi_name", area_name(Path()))
    chosen = chosen_aoi(shared)
    if chosen:
        load_aoi(chosen)
    if "bbox" in area:
        shared["bbox"] = [float(number) for number in numbers]
    return shared
