"""The job simulate: writes a scene's images, its area of interest and its truth."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.io import MemoryFile

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import (
    Content,
    Context,
    Draft,
    Estimate,
    Handouts,
    Job,
    Nothing,
    Results,
    Round,
    Settings,
    Site,
    Work,
)
from acdtask.jobs.shards import shards_of
from acdtask.jobs.simulate.scene import scene_of
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.jobs.simulate.speckle import NODATA
from acdtask.jobs.simulate.truth import aoi_payload, truth_geojson
from acdtask.storage.store import Store

__all__ = ["SimulateJob", "SimulateSettings", "geotiff", "image_key"]

SCENE_KEY, AOI_KEY, TRUTH_KEY = "scene.json", "aoi.json", "truth.geojson"
STORED_SCALE = 0.001
"""Coherence = stored value x this."""
BLOCK = 256
ALGORITHM = 2
"""Since 2, pairs share acquisitions, and weather, farm work and events are as described in decision 0037."""
CORE_SECONDS_PER_PIXEL = 4.5e-7
BYTES_PER_PIXEL = 1.6


class SimulateSettings(SceneSettings, Settings):
    """The scene, and where to write its files."""

    execution: ClassVar[frozenset[str]] = frozenset({"shard_images"})

    out: str = Field(description="folder or s3:// prefix for the images, aoi.json and truth.geojson")
    shard_images: int = Field(default=5, ge=1, description="images per shard")

    def scene(self) -> SceneSettings:
        """Only the settings of the scene."""
        return SceneSettings(**{name: getattr(self, name) for name in SceneSettings.model_fields})


class SimulateContent(Content):
    """The absolute address of the files, since a relative one depends on the working directory."""

    out: str

    def identity(self, settings: Settings) -> dict[str, Any]:
        """The settings, with the absolute address."""
        return {"settings": {**settings.science(), "out": self.out}}


class ScenePairs(Work):
    """The pairs of a shard."""

    pairs: list[int]


class WrittenImages(BaseModel):
    """The images that a shard wrote."""

    keys: list[str]


SimulateContext = Context[SimulateSettings, SimulateContent]


class WriteImages(Round[ScenePairs, Nothing, WrittenImages]):
    """Write the images, then the area of interest and the truth."""

    name = "images"

    def run(self, work: ScenePairs, handout: Nothing, context: SimulateContext) -> WrittenImages:
        """Write the images of a shard, and return their names."""
        scene = scene_of(context.settings.scene())
        out = Store.at(context.content.out)
        # Written first, so that a folder with an image always identifies its scene.
        out.put(SCENE_KEY, _scene_json(scene.settings))
        keys = []
        for done, pair in enumerate(work.pairs, start=1):
            keys.append(image_key(scene.settings, pair))
            out.put(keys[-1], geotiff(scene.image(pair), scene.settings))
            context.progress(done)
        return WrittenImages(keys=keys)

    def gather(self, results: Results[ScenePairs, WrittenImages], context: SimulateContext) -> Handouts[Nothing]:
        """Write the area of interest and the truth, once all images are written."""
        scene = context.settings.scene()
        written = sum(len(images.keys) for _, images in results)
        if written != scene.pairs and not results.left_out:
            raise AcdError(ErrorCode.BUG, f"the shards of the scene wrote {written} images, not {scene.pairs}")
        out = Store.at(context.content.out)
        out.put(TRUTH_KEY, _json(truth_geojson(scene_of(scene))))
        out.put(AOI_KEY, _json(aoi_payload(scene)))
        return Handouts()


class SimulateJob(Job[SimulateSettings, SimulateContent]):
    """Simulate images of known ground with known changes.

    Below `out` it writes `images/S1_<start>_<end>_VV_coherence.tif`, `scene.json` (the settings), `aoi.json` and
    `truth.geojson`.
    """

    name = "simulate"
    algorithm = ALGORITHM
    unit = "images"
    rounds = (WriteImages(),)
    plans_only_what_is_missing = False
    settings = SimulateSettings
    content = SimulateContent

    def plan(self, settings: SimulateSettings, site: Site) -> Draft[SimulateContent, ScenePairs]:
        """Plan the pairs of each shard. SETTING_INVALID if the scene is impossible, or `out` has another one."""
        del site  # the scene depends only on its settings
        scene = settings.scene()
        _require_metres(scene.crs)
        events = scene_of(scene).truth()
        aoi_payload(scene)
        out = Store.at(settings.out)
        existing = out.find(SCENE_KEY)
        if existing is not None and existing != _scene_json(scene):
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                f"out: {settings.out} holds a scene with other settings",
                fix="Choose an empty folder, or the settings in its scene.json.",
            )
        pixels = scene.pairs * scene.size**2
        return Draft(
            content=SimulateContent(out=out.url),
            shards=shards_of(range(scene.pairs), settings.shard_images, lambda pairs: ScenePairs(pairs=pairs)),
            estimate=Estimate(
                dates=scene.pairs,
                bytes_written=round(BYTES_PER_PIXEL * pixels),
                core_seconds=round(CORE_SECONDS_PER_PIXEL * pixels, 1),
            ),
            notes={"images": scene.pairs, "events": len(events)},
        )


def image_key(settings: SceneSettings, pair: int) -> str:
    """The key of a pair's image below `out`.

    >>> image_key(SceneSettings(), 0)
    'images/S1_20200801_20200807_VV_coherence.tif'
    """
    start, end = settings.pair_dates(pair)
    return f"images/S1_{start:%Y%m%d}_{end:%Y%m%d}_VV_coherence.tif"


def geotiff(pixels: NDArray[np.int16], settings: SceneSettings) -> bytes:
    """Encode an image as a tiled GeoTIFF with ZSTD; equal pixels give equal bytes."""
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            dtype="int16",
            count=1,
            height=pixels.shape[0],
            width=pixels.shape[1],
            crs=settings.crs,
            transform=Affine(*settings.transform),
            nodata=NODATA,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            compress="zstd",
            predictor=2,
            num_threads=1,
        ) as raster:
            raster.write(pixels, 1)
            raster.scales = (STORED_SCALE,)
        return bytes(memory.getbuffer())


def _require_metres(crs: str) -> None:
    try:
        parsed = CRS.from_user_input(crs)
    except CRSError as error:
        raise AcdError(ErrorCode.SETTING_INVALID, f"crs: {crs!r} is not known") from error
    if not parsed.is_projected or parsed.linear_units_factor[1] != 1.0:
        raise AcdError(ErrorCode.SETTING_INVALID, f"crs: {crs!r} is not a projection in metres")


def _scene_json(settings: SceneSettings) -> bytes:
    return (settings.model_dump_json(indent=1) + "\n").encode()


def _json(value: Any) -> bytes:
    return (json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n").encode()
