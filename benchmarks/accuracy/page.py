"""The page docs/accuracy.md, from results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.measure import SIZES, Row, curve, reliability, row
from benchmarks.accuracy.methods import methods, missing_profiles
from benchmarks.accuracy.picture import precision_recall
from benchmarks.accuracy.run import CURVES_OF, Results, SceneResults
from benchmarks.accuracy.scenes import FIT_SEEDS, KINDS, SIZE, Kind

__all__ = ["PICTURE", "write_page"]

PICTURE = "images/accuracy.svg"

TEMPLATE = Path(__file__).with_name("page.md")


def write_page(folder: Path, results: Results, kinds: Sequence[Kind] = KINDS, size: int = SIZE) -> None:
    """Write accuracy.md and its picture into a folder.

    Args:
        folder: the folder, usually docs.
        results: results of scenes of each kind, of the same seeds.
        kinds: the kinds, in the order of the page.
        size: width and height of the scenes in pixels.
    """
    parts = {
        "scenes": _scenes(results, kinds, size),
        "tables": "\n\n".join(_table(kind, results[kind.name]) for kind in kinds),
        "curves": _pictured(folder, results.get(CURVES_OF, [])),
        "number": str(len(next(iter(results.values())))),
        "calibration": _calibration([scene for scenes in results.values() for scene in scenes]),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"{{{{{name}}}}}", part)
    (folder / "accuracy.md").write_text(text, encoding="utf-8")


def _scenes(results: Results, kinds: Sequence[Kind], size: int) -> str:
    seeds = [scene.seed for scene in results[kinds[0].name]]
    lines = ["| scenes | |", "|---|---|", *(f"| {kind.name} | {kind.text} |" for kind in kinds)]
    absent = missing_profiles()
    text = (
        f"{len(seeds)} scenes of {size} x {size} px of each kind (seeds {seeds[0]} to {seeds[-1]}). Thresholds and"
        f" models are fitted on other scenes (seeds {FIT_SEEDS[0]} to {FIT_SEEDS[-1]}), never on these.\n\n"
    )
    note = f"\n\nNot in this version of acd, and so not in the tables: {', '.join(absent)}." if absent else ""
    return text + "\n".join(lines) + note


HEADER = (
    "method",
    "pixel precision",
    "recall",
    "F1",
    "patch precision",
    "recall",
    "F1",
    "false",
    *(f"found, {low} to {high} px" if high < float("inf") else f"found, {low} px and more" for low, high in SIZES),
)


def _table(kind: Kind, scenes: Sequence[SceneResults]) -> str:
    lines = [f"## {kind.name.capitalize()}", "", f"| {' | '.join(HEADER)} |", f"|---|{'---|' * (len(HEADER) - 1)}"]
    for method in (method for method in methods() if method.is_judged_on(kind.name)):
        figures = row([scene.methods[method.name] for scene in scenes])
        lines.append(f"| {method.name} | {' | '.join(_cells(figures))} |")
    return "\n".join(lines)


def _cells(figures: Row) -> list[str]:
    shares = [
        figures.pixel_precision,
        figures.pixel_recall,
        figures.pixel_f1,
        figures.patch_precision,
        figures.patch_recall,
        figures.patch_f1,
    ]
    false = f"{figures.false_per_1000km2.mean:.1f} ± {figures.false_per_1000km2.error:.1f}"
    return [*map(str, shares), false, *map(str, figures.by_size)]


def _pictured(folder: Path, scenes: Sequence[SceneResults]) -> str:
    """Draw the picture, and return the text around it; empty without scenes."""
    if not scenes:
        return ""
    names = list(scenes[0].curves)
    curves = {name: curve([scene.curves[name] for scene in scenes]) for name in names}
    rows = {
        method.name: row([scene.methods[method.name] for scene in scenes])
        for method in methods()
        if method.is_judged_on(CURVES_OF)
    }
    points = {
        name: (figures.pixel_recall.mean, figures.pixel_precision.mean)
        for name, figures in rows.items()
        if figures.pixel_precision.mean == figures.pixel_precision.mean  # a method without patches has no precision
    }
    (folder / PICTURE).parent.mkdir(parents=True, exist_ok=True)
    title = f"Precision and recall of pixels, {CURVES_OF} scenes"
    (folder / PICTURE).write_text(precision_recall(curves, points, title), encoding="utf-8")
    return (
        f"## Precision and recall\n\n![{title}]({PICTURE})\n\nDots are the rows of the first table. Lines show what"
        " happens as fewer candidates are kept, ranked by their probability or, if the method has none, by their"
        " highest z: from all candidates on the right to the most certain one on the left."
    )


def _calibration(scenes: Sequence[SceneResults]) -> str:
    tables = []
    for method in methods():
        bins = reliability(scene.methods[method.name] for scene in scenes if method.name in scene.methods)
        if bins:
            lines = [f"| {b.expected:.2f} | {b.observed:.2f} | {b.candidates} |" for b in bins]
            head = ["| mean probability | share that are events | candidates |", "|---|---|---|"]
            title = f"Candidates of {method.name} by their probability, all scenes together:\n\n"
            tables.append(title + "\n".join([*head, *lines]))
    return "\n\n".join(["## Calibration", *(tables or ["None of these methods gives a probability."])])
