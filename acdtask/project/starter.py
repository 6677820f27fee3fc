"""A first `acd.toml`: every setting with a comment, filled in with what can be seen of the images."""

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

from acdtask.change.profile import MIN_STD_SHARE, PROFILES
from acdtask.cube.model import NAME_BYTES
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.period import period_text, year_after
from acdtask.jobs.ingest.checks import input_of, readings_of
from acdtask.jobs.ingest.origins import NothingKnown
from acdtask.jobs.ingest.pixels import judge
from acdtask.jobs.ingest.reading import Reading
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.sources import Candidate, access_to, find_candidates
from acdtask.jobs.registry import load_job
from acdtask.project.config import AREA, JOBS_IN_ORDER, SHARED, WATCH
from acdtask.storage.store import Store
from acdtask.storage.web_address import is_web, name_of

__all__ = ["Seen", "area_name", "guess_pattern", "guess_source", "look", "starter_text"]

HEAD = """\
# acd.toml: what `acdtask watch` does in this folder. Every command here takes cube, area, layout and settings
# from it; an option or an environment variable (ACD_CUBE, ACD_AOI, ...) wins. A line that begins with # is not read.
"""
ABOUT = {
    "ingest": "Where the images are, and what their numbers mean.",
    "consolidate": "Only if [watch] wants it: images stored tile by tile.",
    "baseline": "Which images say what is usual here.",
    "monitor": "Which images are compared with the baseline, and what counts as abnormal.",
    "report": "The page that shows what was found.",
    "watch": "What `acdtask watch` does besides ingest, baseline, monitor and report.",
}
IMAGE_ENDINGS = (".tif", ".tiff")
DEEPEST, MOST_FOLDERS = 2, 1000
MOST_READ = 5
"""Of images that may say by NaN alone which pixels are nodata, so many are read; none from the web."""

TWO_DATES, ONE_DATE = re.compile(r"(\d{8})(\D)(\d{8})"), re.compile(r"(?<!\d)(\d{8})(?!\d)")


@dataclass(frozen=True)
class Seen:
    """What can be seen of the images of a source.

    Attributes:
        images: how many match.
        unmatched: how many files do not.
        moments: the datetimes of the images, in order, each once.
        grids: CRS and pixel size, each once.
        bbox: west, south, east, north of all of them.
        without_nodata: how many do not say which of their pixels are nodata, at least.
        all_checked: whether that is the number of all images; otherwise more were not read.
        unfit: why images cannot be ingested as they are, for other reasons.
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
        """The same for people."""
        others = f", {self.unmatched} other files do not" if self.unmatched else ""
        first, last = self.moments[0].date(), self.moments[-1].date()
        said = [f"{self.images} images in {source} match{others}. Dates: {first} to {last}. {'; '.join(self.grids)}."]
        if self.without_nodata:
            count = f"{'' if self.all_checked else 'At least '}{self.without_nodata} of them"
            said.append(f"{count} do not say which pixels are nodata: give source_nodata (0 or nan).")
        if self.unfit:
            reason = " ".join(str(self.unfit[0]).split())
            said.append(f"{len(self.unfit)} cannot be ingested with these settings, the first because of {reason}")
        return said


def look(settings: IngestSettings) -> Seen:
    """Look at the images that an ingest would bring in. Raises what finding them and their headers raise."""
    found = find_candidates(settings, {}, NothingKnown())
    if not found.candidates:
        raise found.unfit[0].error
    readings, unclear = readings_of(found.candidates, settings)
    errors = [one.error for one in (*found.unfit, *unclear)]
    by_nan = [(one, reading) for one, reading in readings if not reading.knows_nodata]
    here = [(one, reading) for one, reading in by_nan if not is_web(one.address)][:MOST_READ]
    is_unclear = [_is_nodata_unknown(one, reading, settings) for one, reading in here]
    boxes = [shapely.geometry.shape(one.record.footprint).bounds for one in found.candidates]
    low, high = (
        [min(box[side] for box in boxes) for side in (0, 1)],
        [max(box[side] for box in boxes) for side in (2, 3)],
    )
    return Seen(
        images=len(found.candidates),
        unmatched=len(found.unmatched),
        moments=sorted({one.record.datetime for one in found.candidates}),
        grids=sorted({_grid_text(one) for one in found.candidates}),
        bbox=(low[0], low[1], high[0], high[1]),
        without_nodata=sum(is_unclear) + sum(error.code is ErrorCode.INPUT_NODATA_UNKNOWN for error in errors),
        all_checked=len(is_unclear) == len(by_nan),
        unfit=[error for error in errors if error.code is not ErrorCode.INPUT_NODATA_UNKNOWN],
    )


def _is_nodata_unknown(candidate: Candidate, reading: Reading, settings: IngestSettings) -> bool:
    """Whether an ingest that reads the pixels of an image would ask which of them are nodata."""
    try:
        judge(input_of(candidate, reading), settings.definition().dformat, access_to(settings, signed=False))
    except AcdError as error:
        if error.code.value.retryable:
            raise
        return error.code is ErrorCode.INPUT_NODATA_UNKNOWN
    return False


def _grid_text(candidate: Candidate) -> str:
    x, y = candidate.grid.resolution
    return f"{candidate.grid.crs[:40]}, pixels of {x:.6g} x {y:.6g}"


def guess_source(folder: Path) -> str:
    """The folder, in or below a folder, with the most GeoTIFFs; empty if there is none."""
    counts = {path: _count(path) for path in _folders(folder)}
    best = max(counts, key=lambda path: (counts[path], -len(path.parts)), default=folder)
    return best.relative_to(folder).as_posix() if counts.get(best) else ""


def _folders(folder: Path, depth: int = 0) -> Iterator[Path]:
    """The folder and those below it, but for hidden ones and cubes."""
    if (folder / "cube.json").exists():
        return
    yield folder
    if depth < DEEPEST:
        inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        for path in inner[:MOST_FOLDERS]:
            yield from _folders(path, depth + 1)


def _count(folder: Path) -> int:
    return sum(path.suffix.lower() in IMAGE_ENDINGS for path in folder.iterdir())


def guess_pattern(source: str) -> str:
    """A pattern for filenames that have one or two dates as YYYYMMDD, from the first that has; empty if none has.

    Raises what listing the source raises.
    """
    names = [name_of(source)] if is_web(source) else [key.rpartition("/")[2] for key in Store.at(source).list()]
    images = [name for name in names if name.lower().endswith(IMAGE_ENDINGS)]
    for name in images:
        if two := TWO_DATES.search(name):
            return f"*{{start:%Y%m%d}}{two[2]}{{end:%Y%m%d}}*{Path(name).suffix}"
    return next((f"*{{date:%Y%m%d}}*{Path(name).suffix}" for name in images if ONE_DATE.search(name)), "")


def area_name(folder: Path) -> str:
    """A name for the area, made of the folder's.

    >>> area_name(Path("/data/Köln Süd"))
    'K-ln-S-d'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", folder.resolve().name).strip("-")[:NAME_BYTES] or "area"


def starter_text(
    shared: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]], source: str, seen: Seen | AcdError | None
) -> str:
    """The text of the file.

    Args:
        shared: values above the sections.
        sections: values of the sections.
        source: where the images are.
        seen: what was seen of the images, or why nothing was; None if nobody looked.
    """
    lines = [HEAD]
    for name, meaning in SHARED.items():
        lines.append(_line(name, shared.get(name), _example_of(name), meaning, is_given=name in shared))
    for job in JOBS_IN_ORDER:
        lines += ["", f"[{job}]", f"# {ABOUT[job]}", *_notes(job, source, seen)]
        given = sections.get(job, {})
        lines += [
            _setting(name, field.description or "", _default(job, name, seen), given)
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


def _default(job: str, field: str, seen: Seen | AcdError | None) -> Any:
    """What a setting is when it is not given, as far as that is a value; None if it is not."""
    if (job, field) == ("baseline", "end") and isinstance(seen, Seen) and _is_short(seen):
        return f"{seen.moments[max(0, len(seen.moments) - 2)].date()}T23:59:59Z"
    if (job, field) == ("monitor", "min_std"):
        return MIN_STD_SHARE  # in the unit of coherence, which is 0 to 1; profiles have stored units
    default = load_job(job).settings.model_fields[field].get_default(call_default_factory=True)
    return PROFILES["standard"].recorded().get(field) if job == "monitor" and default is None else default


def _is_short(seen: Seen) -> bool:
    """Whether the first year of the images is all that there is."""
    return seen.moments[-1] < year_after(seen.moments[0])


def _line(name: str, value: Any, example: str, meaning: str, *, is_given: bool) -> str:
    text = f"{name} = {toml_value(value)}" if is_given else f"# {name} = {example}".rstrip()
    return f"{text}  # {meaning}"


def _notes(job: str, source: str, seen: Seen | AcdError | None) -> list[str]:
    """What was seen that matters to a job, as comments."""
    if job == "ingest" and isinstance(seen, AcdError):
        return [f"# No image could be looked at yet: {' '.join(str(seen).split())}"]
    if not isinstance(seen, Seen):
        return []
    if job == "ingest":
        return [f"# {sentence}" for sentence in seen.sentences(source)]
    if job != "baseline":
        return []
    if _is_short(seen):
        return ["# The images span less than a year: set the end of the baseline; images after it are monitored."]
    period = period_text(seen.moments[0], year_after(seen.moments[0]) - timedelta(microseconds=1), by_default=False)
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
    """A value as TOML writes it.

    >>> toml_value({"orbit": "37"}), toml_value(("a", "b")), toml_value(float("nan")), toml_value(True)
    ('{"orbit" = "37"}', '["a", "b"]', 'nan', 'true')
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, datetime):
        return json.dumps(value.isoformat())
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else f"{'-' if value < 0 else ''}inf"
    return json.dumps(value, ensure_ascii=False)
