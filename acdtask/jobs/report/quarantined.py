"""What the results do not hold because it failed for good, as rows of the page."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Mapping, Sequence

from acdtask.jobs.ingest.quarantined import LeftOutRaster
from acdtask.jobs.products import BaselineManifest, ImageProduct
from acdtask.jobs.quarantine import Failure
from acdtask.jobs.report.model import LeftOutRow

__all__ = ["left_out_rows", "pictures_left_out"]


def left_out_rows(
    baseline: BaselineManifest, products: Sequence[ImageProduct], rasters: Sequence[LeftOutRaster]
) -> list[LeftOutRow]:
    """Files that are not in the cube, tiles that the baseline has not, and tiles that images lack besides."""
    rows = [
        _row("ingest", one.address.rpartition("/")[2], [one.record.datetime.date()], one.failure)
        for one in rasters
        if one.record.datetime >= baseline.start
    ]
    period = [baseline.start.date(), baseline.last.date()]
    rows += [_row(one.job, f"tile {one.cell}", period, one.failure) for one in baseline.quarantined]
    known = {(one.job, one.cell) for one in baseline.quarantined}
    dates: defaultdict[tuple[str, str, Failure], list[datetime.date]] = defaultdict(list)
    for product in products:
        for tile in product.quarantined:
            if (tile.job, tile.cell) not in known:
                dates[tile.job, tile.cell, tile.failure].append(product.datetime.date())
    return rows + [_row(job, f"tile {cell}", days, failure) for (job, cell, failure), days in dates.items()]


def pictures_left_out(
    products: Sequence[ImageProduct], baseline: BaselineManifest, missing: Mapping[str, Failure]
) -> list[LeftOutRow]:
    """The rows of pictures that could not be drawn, by label of the image; the baseline has no label."""
    rows = []
    if "" in missing:
        period = [baseline.start.date(), baseline.last.date()]
        rows.append(_row("report", "pictures of the baseline", period, missing[""]))
    return rows + [
        _row("report", f"pictures of {product.label}", [product.datetime.date()], missing[product.label])
        for product in products
        if product.label in missing
    ]


def _row(job: str, what: str, dates: Sequence[datetime.date], failure: Failure) -> LeftOutRow:
    error = f"ACD-{failure.number}" if failure.number else ""
    sentence = failure.message[:1].upper() + failure.message[1:]
    return LeftOutRow(job=job, what=what, start=min(dates), end=max(dates), error=error, sentence=f"{sentence}.")
