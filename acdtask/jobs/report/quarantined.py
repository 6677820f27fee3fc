"""Rows of the page about what was left out of the results."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Mapping, Sequence

from acdtask.jobs.ingest.unusable_notes import UnusableFile
from acdtask.jobs.products import BaselineManifest, ImageProduct
from acdtask.jobs.quarantine import Failure
from acdtask.jobs.report.model import LeftOutRow

__all__ = ["left_out_rows", "pictures_left_out"]


def left_out_rows(
    baseline: BaselineManifest, products: Sequence[ImageProduct], files: Sequence[UnusableFile]
) -> list[LeftOutRow]:
    """Rows for files missing in the cube, tiles missing in the baseline, and further tiles missing in images."""
    rows = [
        _row(
            "ingest",
            file.address.rpartition("/")[2],
            [file.record.datetime.date()] if file.record else [],
            file.failure,
        )
        for file in files
        if file.record is None or file.record.datetime >= baseline.start
    ]
    period = [baseline.start.date(), baseline.last.date()]
    rows += [_row(tile.job, f"tile {tile.cell}", period, tile.failure) for tile in baseline.quarantined]
    known = {(tile.job, tile.cell) for tile in baseline.quarantined}
    dates: defaultdict[tuple[str, str, Failure], list[datetime.date]] = defaultdict(list)
    for product in products:
        for tile in product.quarantined:
            if (tile.job, tile.cell) not in known:
                dates[tile.job, tile.cell, tile.failure].append(product.datetime.date())
    return rows + [_row(job, f"tile {cell}", days, failure) for (job, cell, failure), days in dates.items()]


def pictures_left_out(
    products: Sequence[ImageProduct], baseline: BaselineManifest, missing: Mapping[str, Failure]
) -> list[LeftOutRow]:
    """Rows for pictures that could not be drawn, by the image's label; `""` is the baseline."""
    rows = []
    if "" in missing:
        period = [baseline.start.date(), baseline.last.date()]
        rows.append(_row("report", "pictures of the baseline", period, missing[""]))
    return rows + [
        _row("report", f"pictures of {product.label}", [product.datetime.date()], missing[product.label])
        for product in products
        if product.label in missing
    ]


def _row(job: str, name: str, dates: Sequence[datetime.date], failure: Failure) -> LeftOutRow:
    error = f"ACD-{failure.number}" if failure.number else ""
    sentence = failure.message[:1].upper() + failure.message[1:]
    return LeftOutRow(
        job=job,
        what=name,
        start=min(dates, default=None),
        end=max(dates, default=None),
        error=error,
        sentence=f"{sentence}.",
    )
