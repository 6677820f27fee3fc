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
    from acdtask.project.starter import SourceSummary

__all__ = ["command"]

CubeAddress = Annotated[
    str, typer.Option("--cube", metavar="ADDRESS", help="Folder or s3://bucket/prefix of the cube.")
]
LayoutName = Annotated[str, typer.Option("--layout", metavar="NAME", help="Name of the layout.")]
BaselineStart = Annotated[str, typer.Option("--baseline-start", metavar="DATE", help="First date of the baseline.")]
BaselineEnd = Annotated[
    str,
    typer.Option(
        "--baseline-end", metavar="DATE", help="Last date of the baseline.  [default: one year after the first image]"
    ),
]
Out = Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder or s3:// address of the report.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing acd.toml.")]

SHARED_BY_JOBS = ("aoi", "variable", "instance")
"""Settings of ingest that belong above the sections."""


def command() -> TyperCommand:
    """Make the command."""
    from acdtask.cli.options import options_of
    from acdtask.jobs.ingest.settings import IngestSettings

    own: dict[str, tuple[Any, Any]] = {
        "cube": (CubeAddress, "cube"),
        "layout": (LayoutName, "images"),
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
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    text = (
        "Writes acd.toml into this folder: source, area, baseline, thresholds, cube and report, each setting with a "
        "comment. It fills in what the images show; without --source it searches this folder for GeoTIFFs. Options are "
        "written into the file as settings. Edit the file, then run 'acdtask watch'."
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
    from acdtask.project.starter import SourceSummary, starter_text

    file = Path(FILE)
    if not force and (file.exists() or file.is_symlink()):
        raise AcdError(ErrorCode.PROJECT_EXISTS, f"{file} already exists in this folder")
    area = {name: given.pop(name) for name in AREA if given.get(name)}
    options = {name: value for name, value in given.items() if value is not None and name not in AREA}
    settings, guesses, summary = _ingest(options)
    values = settings.model_dump(mode="json", include=set(options) | {"source", "pattern"})
    shared = {"cube": cube, **_area(area, summary), "layout": layout}
    shared |= {name: getattr(settings, name) for name in SHARED_BY_JOBS if name != "aoi"}
    sections = {
        "ingest": {name: value for name, value in values.items() if name not in SHARED_BY_JOBS},
        "baseline": {
            name: value for name, value in (("start", baseline_start), ("end", baseline_end)) if value.strip()
        },
        "report": {"out": out},
    }
    write_text(file, starter_text(shared, sections, settings.source, summary))
    unread = [f"no image could be read yet: {summary}"]
    for line in [*guesses, *(summary.sentences(settings.source) if isinstance(summary, SourceSummary) else unread)]:
        say(line)
    say(f"{file} is written. Check it, then run: acdtask watch --plan")


def _ingest(options: dict[str, Any]) -> tuple[IngestSettings, list[str], SourceSummary | AcdError]:
    """Make the settings of the ingest, guessing source and pattern if needed.

    Returns the settings, a line for each guess, and the images found with them or the error of reading them.
    """
    from acdtask.cli.options import settings_from
    from acdtask.jobs.ingest.settings import IngestSettings
    from acdtask.project.starter import guess_pattern, guess_source
    from acdtask.storage.web_address import SIGNED_SOURCE, signed_source

    guesses: list[str] = []
    if not options.get("source"):
        source = guess_source(Path())
        guesses.append(
            f"source: {source}, which has the most GeoTIFFs" if source else "source: images, a folder for the images"
        )
        options = {**options, "source": source or "images"}
    settings = settings_from(IngestSettings, options)
    if signed_source(settings.source) != settings.source:
        guesses.append(
            f"the query of {settings.source} may be a signature and is not written: set {SIGNED_SOURCE} to the whole "
            "URL before you run acdtask watch"
        )
    summary = _summarise(settings)
    if "pattern" not in options and isinstance(summary, AcdError):
        try:
            pattern = guess_pattern(settings.source)
        except AcdError:  # the error in `summary` is reported instead
            pattern = ""
        if pattern:
            guessed = settings_from(IngestSettings, {**options, "pattern": pattern})
            guessed_summary = _summarise(guessed)
            if not isinstance(guessed_summary, AcdError):
                return guessed, [*guesses, f"pattern: {pattern}, from the filenames"], guessed_summary
    return settings, guesses, summary


def _summarise(settings: IngestSettings) -> SourceSummary | AcdError:
    from acdtask.project.starter import summarise_source

    try:
        return summarise_source(settings)
    except AcdError as error:
        return error


def _area(area: dict[str, Any], summary: SourceSummary | AcdError) -> dict[str, Any]:
    """Check the given area; without one, take the bounds of the images. Errors of `chosen_aoi`."""
    from acdtask.cube.aoi import load_aoi
    from acdtask.project.config import chosen_aoi
    from acdtask.project.starter import SourceSummary, area_name

    shared = dict(area)
    if "bbox" in area:
        numbers = str(area["bbox"]).replace(",", " ").split()
        shared.setdefault("aoi_name", area_name(Path()))
    elif "aoi" not in area and isinstance(summary, SourceSummary):
        shared["bbox"] = list(summary.bbox)
        shared.setdefault("aoi_name", area_name(Path()))
    chosen = chosen_aoi(shared)
    if chosen:
        load_aoi(chosen)
    if "bbox" in area:
        shared["bbox"] = [float(number) for number in numbers]
    return shared
