"""Write a first `acd.toml`: every setting with a comment, some filled in from the images."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import shapely

from acdtask.change.judgement.judging import ONLY_WITHOUT_JUDGEMENT
from acdtask.change.methods import MIN_STD_SHARE, PROFILES
from acdtask.cube.model import NAME_BYTES
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.period import period_text, year_after
from acdtask.jobs.ingest.checks import input_of, readings_of
from acdtask.jobs.ingest.origins import KnownRecords
from acdtask.jobs.ingest.pixels import check_pixels
from acdtask.jobs.ingest.reading import Reading
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.sources import Candidate, access_to, find_candidates
from acdtask.jobs.quantity import usual_profile
from acdtask.jobs.registry import load_job
from acdtask.project.config import AREA, JOBS_IN_ORDER, SHARED, WATCH
from acdtask.storage.store import Store
from acdtask.storage.web_address import is_web, name_of

__all__ = ["SourceSummary", "area_name", "guess_pattern", "guess_source", "starter_text", "summarise_source"]

HEAD = """\
# acd.toml: settings of `acdtask watch` and of every other command that is run in this folder. Options and environment
# variables (ACD_CUBE, ACD_AOI, ...) take precedence. Lines that begin with # are comments.
"""
ABOUT = {
    "ingest": "Where the images are, and what their values mean.",
    "consolidate": "Used only if consolidate is true in [watch]: stores the images tile by tile.",
    "baseline": "Which images define what is usual here.",
    "monitor": "Which images are compared with the baseline, and what counts as abnormal.",
    "report": "The page that shows the results.",
    "watch": "What `acdtask watch` does in addition to ingest, baseline, monitor and report.",
}
IMAGE_ENDINGS = (".tif", ".tiff")
MAX_DEPTH, MAX_FOLDERS = 2, 1000
MAX_IMAGES_READ = 5
"""How many images without a nodata value are read to see whether NaN marks their nodata pixels; never from the web."""

TWO_DATES, ONE_DATE = re.compile(r"(\d{8})(\D)(\d{8})"), re.compile(r"(?<!\d)(\d{8})(?!\d)")


@dataclass(frozen=True)
class SourceSummary:
    """The images of a source, before they are ingested.

    Attributes:
        images: number of files that match the pattern.
        unmatched: number of other files.
        moments: distinct datetimes of the images, ascending.
        grids: distinct combinations of CRS and pixel size.
        bbox: west, south, east, north of all images, in degrees.
        without_nodata: number of images known to define no nodata value.
        all_checked: whether every image was checked for that; otherwise `without_nodata` is a lower bound.
        unfit: other errors that prevent images from being ingested with these settings.
    """

    images: int
    unmatched: int
    moments: Sequence[datetime]
    grids: Sequence[str]
    bbox: tuple[float, float, float, float]
    without_nodata: int
    all_checked: bool = True
    unfit: Sequence[AcdError] = ()

    def sentences(self, source: str) -> list[str]:
        """Describe the images in sentences."""
        others = f", {self.unmatched} other files do not" if self.unmatched else ""
        first, last = self.moments[0].date(), self.moments[-1].date()
        sentences = [
            f"{self.images} images in {source} match{others}. Dates: {first} to {last}. {'; '.join(self.grids)}."
        ]
        if self.without_nodata:
            count = f"{'' if self.all_checked else 'At least '}{self.without_nodata} of them"
            sentences.append(f"{count} define no nodata value: set source_nodata (0 or nan).")
        if self.unfit:
            reason = " ".join(str(self.unfit[0]).split())
            sentences.append(f"{len(self.unfit)} cannot be ingested with these settings, the first because of {reason}")
        return sentences


def summarise_source(settings: IngestSettings) -> SourceSummary:
    """Summarise the images that an ingest would take. Errors in finding them or reading their headers are raised."""
    source = find_candidates(settings, {}, KnownRecords())
    if not source.candidates:
        raise source.unusable[0].error
    readings, unreadable = readings_of(source.candidates, settings)
    errors = [file.error for file in (*source.unusable, *unreadable)]
    undefined = [(candidate, reading) for candidate, reading in readings if not reading.knows_nodata]
    local = [(candidate, reading) for candidate, reading in undefined if not is_web(candidate.address)]
    unknown = [_is_nodata_unknown(candidate, reading, settings) for candidate, reading in local[:MAX_IMAGES_READ]]
    boxes = [shapely.geometry.shape(candidate.record.footprint).bounds for candidate in source.candidates]
    low, high = (
        [min(box[side] for box in boxes) for side in (0, 1)],
        [max(box[side] for box in boxes) for side in (2, 3)],
    )
    return SourceSummary(
        images=len(source.candidates),
        unmatched=len(source.unmatched),
        moments=sorted({candidate.record.datetime for candidate in source.candidates}),
        grids=sorted({_grid_text(candidate) for candidate in source.candidates}),
        bbox=(low[0], low[1], high[0], high[1]),
        without_nodata=sum(unknown) + sum(error.code is ErrorCode.INPUT_NODATA_UNKNOWN for error in errors),
        all_checked=len(unknown) == len(undefined),
        unfit=[error for error in errors if error.code is not ErrorCode.INPUT_NODATA_UNKNOWN],
    )


def _is_nodata_unknown(candidate: Candidate, reading: Reading, settings: IngestSettings) -> bool:
    """Whether ingesting an image would fail because its nodata value is unknown."""
    try:
        check_pixels(input_of(candidate, reading), settings.definition().dformat, access_to(settings, signed=False))
    except AcdError as error:
        if error.code.value.retryable:
            raise
        return error.code is ErrorCode.INPUT_NODATA_UNKNOWN
    return False


def _grid_text(candidate: Candidate) -> str:
    x, y = candidate.grid.resolution
    return f"{candidate.grid.crs[:40]}, pixels of {x:.6g} x {y:.6g}"


def guess_source(folder: Path) -> str:
    """Find the folder with the most GeoTIFFs, at or below `folder`, as a relative path; empty if there is none."""
    counts = {path: _count(path) for path in _folders(folder)}
    best = max(counts, key=lambda path: (counts[path], -len(path.parts)), default=folder)
    return best.relative_to(folder).as_posix() if counts.get(best) else ""


def _folders(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Iterate over a folder and its subfolders, without hidden folders and cubes."""
    if (folder / "cube.json").exists():
        return
    yield folder
    if depth < MAX_DEPTH:
        inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        for path in inner[:MAX_FOLDERS]:
            yield from _folders(path, depth + 1)


def _count(folder: Path) -> int:
    return sum(path.suffix.lower() in IMAGE_ENDINGS for path in folder.iterdir())


def guess_pattern(source: str) -> str:
    """Guess the filename pattern from the first image whose name has one or two dates as YYYYMMDD; empty if none has.

    Errors in listing the source are raised.
    """
    names = [name_of(source)] if is_web(source) else [key.rpartition("/")[2] for key in Store.at(source).list()]
    images = [name for name in names if name.lower().endswith(IMAGE_ENDINGS)]
    for name in images:
        if dates := TWO_DATES.search(name):
            return f"*{{start:%Y%m%d}}{dates[2]}{{end:%Y%m%d}}*{Path(name).suffix}"
    return next((f"*{{date:%Y%m%d}}*{Path(name).suffix}" for name in images if ONE_DATE.search(name)), "")


def area_name(folder: Path) -> str:
    """Derive a name for the area from the folder's.

    >>> area_name(Path("/data/Köln Süd"))
    'K-ln-S-d'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", folder.resolve().name).strip("-")[:NAME_BYTES] or "area"


def starter_text(
    shared: Mapping[str, Any],
    sections: Mapping[str, Mapping[str, Any]],
    source: str,
    summary: SourceSummary | AcdError | None,
) -> str:
    """Write the text of the file.

    `shared` are the values above the sections. `summary` describes the images of `source`, or is the error of reading
    them; None if they were not looked at.
    """
    lines = [HEAD]
    for name, meaning in SHARED.items():
        lines.append(_line(name, shared.get(name), _example_of(name), meaning, is_given=name in shared))
    for job in JOBS_IN_ORDER:
        lines += ["", f"[{job}]", f"# {ABOUT[job]}", *_notes(job, source, summary)]
        given = sections.get(job, {})
        lines += [
            _setting(name, field.description or "", _default(job, name, shared, summary), given)
            for name, field in load_job(job).settings.model_fields.items()
            if name not in (*AREA, *SHARED)
        ]
    lines += ["", "[watch]", f"# {ABOUT['watch']}"]
    lines += [
        _line(name, sections.get("watch", {}).get(name, False), "", why, is_given=True) for name, why in WATCH.items()
    ]
    return "\n".join(lines) + "\n"


def _setting(name: str, meaning: str, default: Any, given: Mapping[str, Any]) -> str:
    if name in given:
        return _line(name, given[name], "", meaning, is_given=True)
    example = "" if default is None else toml_value(default)
    return _line(name, None, example, meaning, is_given=False)


def _default(job: str, field: str, shared: Mapping[str, Any], summary: SourceSummary | AcdError | None) -> Any:
    """The value to show for a setting that is not given; None if there is none."""
    if (job, field) == ("baseline", "end") and isinstance(summary, SourceSummary) and _is_short(summary):
        return f"{summary.moments[max(0, len(summary.moments) - 2)].date()}T23:59:59Z"
    if (job, field) == ("monitor", "min_std"):
        return MIN_STD_SHARE  # coherence from 0 to 1; profiles hold stored units
    fields = load_job(job).settings.model_fields
    default = fields[field].get_default(call_default_factory=True)
    if job != "monitor" or default is not None:
        return default
    method = PROFILES[shared.get("profile") or usual_profile(shared.get("variable") or fields["variable"].default)]
    return None if method.judging and field in ONLY_WITHOUT_JUDGEMENT else method.recorded().get(field)


def _is_short(summary: SourceSummary) -> bool:
    """Whether the images span less than a year."""
    return summary.moments[-1] < year_after(summary.moments[0])


def _line(name: str, value: Any, example: str, meaning: str, *, is_given: bool) -> str:
    text = f"{name} = {toml_value(value)}" if is_given else f"# {name} = {example}".rstrip()
    return f"{text}  # {meaning}"


def _notes(job: str, source: str, summary: SourceSummary | AcdError | None) -> list[str]:
    """Comments on the images that concern a job."""
    if job == "ingest" and isinstance(summary, AcdError):
        return [f"# No image could be read yet: {' '.join(str(summary).split())}"]
    if not isinstance(summary, SourceSummary):
        return []
    if job == "ingest":
        return [f"# {sentence}" for sentence in summary.sentences(source)]
    if job != "baseline":
        return []
    if _is_short(summary):
        return ["# The images span less than a year: set the end of the baseline; later images are monitored."]
    period = period_text(
        summary.moments[0], year_after(summary.moments[0]) - timedelta(microseconds=1), by_default=False
    )
    return [f"# Without an end the baseline is the first year of the images, {period}; later ones are monitored."]


def _example_of(name: str) -> str:
    examples = {
        "aoi": '"area.geojson"',
        "bbox": "[6.9, 50.9, 7.1, 51.0]",
        "aoi_name": '"area"',
        "aoi_start": '"2020-01-01"',
        "aoi_end": '"2030-12-31"',
    }
    return examples.get(name, '""')


def toml_value(value: Any) -> str:
    """Format a value as TOML.

    >>> toml_value({"orbit": "37"}), toml_value(("a", "b")), toml_value(float("nan")), toml_value(True)
    ('{"orbit" = "37"}', '["a", "b"]', 'nan', 'true')
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, datetime):
        return json.dumps(value.isoformat())
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else f"{'-' if value < 0 else ''}inf"
    return json.dumps(value, ensure_ascii=False)
