"""A report of a made-up area: speckle-like images, real z, real patches, real polygons."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy.ndimage import gaussian_filter
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label
from skimage.morphology import remove_small_objects

from acdtask.change.zscore import Quality
from acdtask.jobs.report.model import (
    BaselinePage,
    DatePage,
    PatchRow,
    QualityReason,
    ReportPage,
    TileShape,
)
from acdtask.jobs.report.pictures import coherence_png, paper_jpeg, paper_name, patches_png, std_png, z_png
from acdtask.jobs.report.score import DetectedPatch, KnownEvent, score

SIZE = 512
WEST, NORTH, LON_STEP, LAT_STEP = 6.80, 51.02, 0.00029, 0.00018
HECTARES = 0.04
QUALITY_REASONS = (
    QualityReason(code=Quality.NO_DATA, words="no image here"),
    QualityReason(code=Quality.NO_BASELINE, words="no baseline here"),
    QualityReason(code=Quality.TOO_FEW_IMAGES, words="too few images in the baseline"),
    QualityReason(code=Quality.STEADY, words="baseline too steady to judge by"),
)
REASONS = [reason.code for reason in QUALITY_REASONS]


@dataclass(frozen=True)
class Report:
    page: ReportPage
    pictures: dict[str, bytes]


def lon_lat(row: float, column: float) -> tuple[float, float]:
    return round(WEST + column * LON_STEP, 6), round(NORTH - row * LAT_STEP, 6)


def ring(row: int, column: int, height: int, width: int) -> tuple[tuple[float, float], ...]:
    corners = [(row, column), (row + height, column), (row + height, column + width), (row, column + width)]
    return tuple(lon_lat(*corner) for corner in [*corners, corners[0]])


def polygon(mask: NDArray[np.bool_]) -> Any:
    parts = [shapely.geometry.shape(geometry) for geometry, _ in shapes(mask.astype(np.uint8), mask=mask)]
    return shapely.union_all(parts)


def disc(row: int, column: int, radius: int) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[:SIZE, :SIZE]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


@pytest.fixture(scope="session")
def made_up() -> Report:
    """Ten dates, eleven events, an orbit edge, one date without an image."""
    random = np.random.default_rng(20210812)
    smooth = gaussian_filter(random.normal(size=(SIZE, SIZE)), 22)
    mean = np.clip(0.52 + 6.5 * smooth, 0.12, 0.92)
    std = np.clip(0.12 - 0.09 * mean + 0.25 * np.abs(gaussian_filter(random.normal(size=mean.shape), 9)), 0.0, None)
    steady = disc(90, 420, 16)
    std[steady] = 0.004
    count = np.full(mean.shape, 60)
    count[440:, :130] = 6
    days = [datetime.date(2021, 6, 19) + datetime.timedelta(days=6 * index) for index in range(10)]
    truth = {
        "E01": ("building", disc(120, 130, 9), [days[1]]),
        "E02": ("building", disc(256, 300, 7), [days[9]]),
        "E03": ("flood", disc(380, 360, 24) & (np.arange(SIZE)[:, None] % 29 > 3), days[5:8]),
        "E04": ("building", disc(60, 250, 6), [days[3]]),
        "E05": ("landslide", disc(300, 80, 15), [days[9]]),
        "E06": ("building", disc(200, 420, 4), [days[6]]),
        "E07": ("mine", disc(180, 250, 20), [days[9]]),
        "E08": ("landslide", disc(400, 210, 12), [days[8]]),
        "E09": ("mine", disc(60, 470, 8), [days[4]]),
        "E10": ("building", disc(470, 60, 8), [days[7]]),
        "E11": ("building", disc(330, 450, 3), [days[2]]),
    }
    pictures = {"baseline/mean.png": coherence_png(mean), "baseline/std.png": std_png(std)}
    dates: list[DatePage] = []
    rows: list[PatchRow] = []
    found: list[DetectedPatch] = []
    for number, day in enumerate(days):
        noise = gaussian_filter(random.normal(size=mean.shape), 1.2)
        image = np.clip(mean + std * noise / noise.std() * 0.85, 0, 1)
        showing = np.zeros(mean.shape, bool)
        for _, mask, event_days in truth.values():
            if day in event_days:
                showing |= mask
        image = np.where(showing, image * 0.38, image)
        slanted = np.arange(SIZE)[None, :] - np.arange(SIZE)[:, None] * 0.12
        image[np.broadcast_to(slanted > 430 + 14 * (number % 3), image.shape)] = np.nan
        if number == 4:
            image[:] = np.nan
        quality = np.zeros(mean.shape, np.uint8)
        quality[steady] = Quality.STEADY
        quality[count < 10] = Quality.TOO_FEW_IMAGES
        quality[np.isnan(image)] = Quality.NO_DATA
        z = np.where(quality == 0, (mean - image) / std, np.nan)
        change = apply_hysteresis_threshold(np.nan_to_num(z, nan=-9.0), 1.7, 3.0)
        change = remove_small_objects(change, max_size=39, connectivity=2)
        names = {kind: f"{day}/{kind}.png" for kind in ("image", "z", "patches")}
        if number != 4:
            pictures[names["image"]] = coherence_png(image)
            pictures[names["z"]] = z_png(z)
            pictures[names["patches"]] = patches_png(image, change, quality, REASONS, showing)
        blobs = label(change, connectivity=2)
        for blob in range(1, blobs.max() + 1):
            where = blobs == blob
            name = f"{day:%Y%m%d}-{blob:03d}"
            pixels = int(where.sum())
            lon, lat = lon_lat(*np.argwhere(where).mean(axis=0))
            rows.append(
                PatchRow(
                    id=name,
                    number=len(rows) + 1,
                    date=day,
                    pair_start=day - datetime.timedelta(days=6),
                    area_px=pixels,
                    area_ha=pixels * HECTARES,
                    z_max=round(float(z[where].max()), 3),
                    z_mean=round(float(z[where].mean()), 3),
                    mean_drop=round(float((mean - image)[where].mean()), 4),
                    baseline_count=60,
                    lon=lon,
                    lat=lat,
                )
            )
            found.append(DetectedPatch(name, day, polygon(where)))
        codes = {code: int((quality == code).sum()) for code in REASONS}
        dates.append(
            DatePage(
                date=day,
                pair_start=day - datetime.timedelta(days=6),
                **({} if number == 4 else names),
                pixels=SIZE * SIZE,
                valid_fraction=float((quality == 0).mean()),
                quality=tuple(sorted(codes.items())),
            )
        )
    pictures |= {paper_name(name): paper_jpeg(png) for name, png in pictures.items()}
    events = [KnownEvent(name, kind, polygon(mask), tuple(shown)) for name, (kind, mask, shown) in truth.items()]
    half = SIZE // 2
    corners = [(0, 0), (0, half), (half, 0), (half, half)]
    page = ReportPage(
        aoi="Köln, right bank",
        variable="CoherenceVV",
        geometry={
            "type": "Polygon",
            "coordinates": [[lon_lat(*p) for p in [(12, 8), (490, 20), (505, 480), (260, 508), (30, 440), (12, 8)]]],
        },
        start=days[0],
        end=days[-1],
        tiles=tuple(
            TileShape(cell=f"{37 + column // half}/{-2824 + row // half}", ring=ring(row, column, half, half))
            for row, column in corners
        ),
        baseline=BaselinePage(
            mean="baseline/mean.png",
            std="baseline/std.png",
            start=datetime.date(2020, 6, 18),
            end=datetime.date(2021, 6, 13),
            images=60,
            count_min=6,
            count_max=60,
        ),
        dates=tuple(dates),
        quality_reasons=QUALITY_REASONS,
        patches=tuple(rows),
        low=1.7,
        high=3.0,
        score=score(events, found, days, unseen={("E09", days[4])}),
        settings={"low": 1.7, "high": 3.0, "min_area": 40, "min_count": 10, "min_std": 0.01, "profile": "default"},
        versions={"acd": "0.1.0", "numpy": "2.4.6", "gdal": "3.10.3", "plan": "8f3c21d07a9b4e55"},
        inputs=70,
    )
    return Report(page, pictures)
