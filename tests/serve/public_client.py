"""The workflow of a user of Geocube's own Python client: a program that test_public_client.py runs.

Both that client and acd define the messages `geocube.*`, so they cannot be imported together. Arguments: the
address, and three GeoTIFFs of int16 at (400000, 5600000) in EPSG:32632 with 20 m pixels, each with its pixels as .npy
next to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import Any

import numpy as np
from shapely import geometry

DATES = [datetime(2021, 1, day) for day in (1, 7, 13)]
NAMES = [f"S1/{date:%Y%m%d}" for date in DATES]
TAGS = [{"orbit": "37"}, {"orbit": "37"}, {"orbit": "139"}]
AOI = geometry.box(7.5, 50.5, 7.7, 50.6)
SIZE, PATIENCE = 64, 300


def refused(call: Callable[[], Any]) -> str:
    """The code of a refused call."""
    try:
        call()
    except import_module("geocube").utils.GeocubeError as error:
        return str(error.codename)
    raise AssertionError("it was not refused")


class Story:
    """A user's workflow, from connecting to cleaning up."""

    def __init__(self, address: str, images: list[str]) -> None:
        self.geocube: Any = import_module("geocube")
        self.entities: Any = self.geocube.entities
        self.address, self.images = address, images
        self.pixels = [np.load(image.replace(".tif", ".npy"))[:SIZE, :SIZE] for image in images]
        self.client = self.geocube.Consolidater(address)
        assert self.client.version().startswith("1.0.3-acd.")

    def areas_and_records(self) -> None:
        client = self.client
        aoi = client.create_aoi(AOI)
        assert refused(lambda: client.create_aoi(AOI)) == "ALREADY_EXISTS"
        assert client.create_aoi(AOI, exist_ok=True) == aoi
        assert client.load_aoi(aoi).equals_exact(geometry.MultiPolygon([AOI]), 1e-5)
        self.ids = list(client.create_records([aoi] * len(NAMES), NAMES, TAGS, DATES))
        assert client.create_record(aoi, NAMES[0], TAGS[0], DATES[0], exist_ok=True) == self.ids[0]
        self.records = client.list_records("S1/*", tags={"orbit": ""}, aoi=AOI, with_aoi=True)
        assert [(record.id, record.datetime, record.tags) for record in self.records] == list(
            zip(self.ids, DATES, TAGS, strict=True)
        )
        some = client.list_records(tags={"orbit": "37"}, from_time=DATES[1], to_time=DATES[2])
        assert [record.name for record in some] == NAMES[1:2]
        assert client.record(self.ids[2]).tags == TAGS[2]
        assert refused(lambda: client.add_records_tags(self.ids, {"a": "b"})) == "UNIMPLEMENTED"

    def variables(self) -> None:
        client = self.client
        client.create_palette("grey", [(0, 0, 0, 0, 255), (1, 255, 255, 255, 255)])
        self.dformat = self.entities.DataFormat.from_user(("int16", -1, 0, 1000))
        self.variable = client.create_variable("CoherenceVV", self.dformat, [""], unit="1", palette="grey")
        self.master = self.variable.instantiate("master", {"baseline": "6"})
        assert client.variable("CoherenceVV").instance("master").instance_id == self.master.instance_id
        assert client.variable(instance_id=self.master.instance_id).metadata == {"baseline": "6"}
        self.master.add_metadata("track", "37")
        self.variable.description = "of Sentinel-1"
        assert client.variable("CoherenceVV").description == "of Sentinel-1"
        assert [variable.name for variable in client.list_variables("coherence*(?i)")] == ["CoherenceVV"]
        assert refused(lambda: client.variable("nope")) == "NOT_FOUND"

    def index(self) -> None:
        def add(image: str, record: Any) -> None:
            self.client.index_dataset(image, record, self.master, self.dformat)

        for image, record in zip(self.images, self.records, strict=True):
            add(image, record)
        add(self.images[0], self.records[0])  # once more
        assert refused(lambda: add(self.images[0], self.records[1])) == "ALREADY_EXISTS"
        assert refused(lambda: add("/nope.tif", self.records[0])) == "INVALID_ARGUMENT"
        assert self.client.containers(self.images[0]).datasets[0].record_id == self.ids[0]

    def tiles(self) -> None:
        client, regular = self.client, self.entities.Layout.regular
        layout = regular("utm", "epsg:32632", SIZE, 20.0, origin=(400000.0, 5600000.0))
        client.create_layout(layout)
        client.create_layout(layout, exist_ok=True)
        received = client.layout("utm")
        assert (dict(received.grid_parameters), received.block_shape) == (layout.grid_parameters, layout.block_shape)
        assert client.tile_aoi(AOI, resolution=20.0, crs="epsg:32632", shape=(SIZE, SIZE))
        assert client.tile_aoi(AOI, layout=self.entities.Layout.web_mercator("web", 12))
        tiles = client.tile_aoi(AOI, "utm")
        (self.tile,) = [tile for tile in tiles if (tile.transform.c, tile.transform.f) == (400000.0, 5600000.0)]

    def check_cube(self, compression: int = 0) -> None:
        """Check that the cube of the tile has the pixels of the files, in the order of the records."""
        params = self.entities.CubeParams.from_tile(self.tile, self.master, records=self.records)
        cube, groups = self.client.get_cube(params, compression=compression, verbose=False)
        assert [group[0].id for group in groups] == self.ids
        assert all(np.array_equal(image[..., 0], pixels) for image, pixels in zip(cube, self.pixels, strict=True))

    def cubes(self) -> None:
        for compression in (0, -3, -2, 1, 9):
            self.check_cube(compression)
        from_tile = self.entities.CubeParams.from_tile
        by_tags = from_tile(self.tile, self.master, tags={"orbit": "37"})
        assert len(self.client.get_cube(by_tags, verbose=False)[0]) == 2
        by_records = from_tile(self.tile, self.master, records=self.records)
        assert len(self.client.get_cube(by_records, headers_only=True, verbose=False)[0]) == len(self.ids)
        self.client.get_xyz_tile(self.master, self.records[:1], 8537, 5499, 14, "tile.png")
        self.client.use_downloader(self.geocube.Downloader(self.address))
        self.check_cube()
        self.client.downloader = None

    def consolidation(self) -> None:
        self.variable.config_consolidation(self.dformat)
        assert self.client.variable("CoherenceVV").consolidation_params.dformat == self.dformat
        job = self.consolidate("consolidation", "utm")
        self.wait(job, "DONE")
        assert len(job.refresh().tasks_from_logs()) == 4  # 120 x 100 px in cells of 64
        assert self.client.job("consolidation").state == "DONE"
        assert list(self.client.find_container_layouts(self.master, records=self.records)) == ["utm"]
        self.check_cube()
        stuck = self.consolidate("stuck", "no-such-layout")
        while stuck.state != "INITIALISATIONFAILED":
            stuck.refresh()
        stuck.cancel()
        self.wait(stuck, "FAILED")
        critical = self.entities.ExecutionLevel.STEP_BY_STEP_CRITICAL
        self.wait(self.consolidate("paused", "utm", execution_level=critical), "DONE")

    def consolidate(self, name: str, layout: str, **options: Any) -> Any:
        return self.client.consolidate(name, self.master, layout, records=self.records, **options)

    def wait(self, job: Any, state: str) -> None:
        self.client.wait_job(job, wait_secs=0.2, timeout_secs=PATIENCE, verbose=False)
        assert job.state == state, job

    def end(self) -> None:
        admin, at_once = self.geocube.Admin(self.address), self.entities.ExecutionLevel.ASYNCHRONOUS
        assert admin.admin_delete_datasets([self.master], self.records, execution_level=at_once).state == "DONE"
        self.client.delete_records(self.records)
        self.variable.delete()
        self.client.remove_terminated_jobs()
        assert (self.client.list_variables(), self.client.list_records(), self.client.list_jobs()) == ([], [], [])


def main(address: str, *images: str) -> None:
    story = Story(address, list(images))
    for chapter in (
        story.areas_and_records,
        story.variables,
        story.index,
        story.tiles,
        story.cubes,
        story.consolidation,
        story.end,
    ):
        chapter()
        sys.stdout.write(f"{chapter.__name__} done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
