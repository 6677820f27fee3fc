"""What a user of Geocube's own Python client does, against a server: run by test_public_client.py in a process of its own.

Both that client and acd define the messages `geocube.*`, so neither may import the other here.
"""

import json
import sys
from datetime import datetime

import geocube
import numpy as np
from geocube import entities, utils
from shapely import geometry


def refused(call):
    try:
        call()
    except utils.GeocubeError as error:
        return error.codename
    raise AssertionError("it was not refused")


def main(address, images, secret_layout):
    expected = [np.load(image.replace(".tif", ".npy")) for image in images]
    client = geocube.Consolidater(address)
    assert client.version().startswith("1.0.3-acd."), client.version()

    # AOI
    aoi = geometry.box(7.5, 50.5, 7.7, 50.6)
    aoi_id = client.create_aoi(aoi)
    assert refused(lambda: client.create_aoi(aoi)) == "ALREADY_EXISTS"
    assert client.create_aoi(aoi, exist_ok=True) == aoi_id
    assert client.load_aoi(aoi_id).equals_exact(geometry.MultiPolygon([aoi]), 1e-5)

    # records
    dates = [datetime(2021, 1, day) for day in (1, 7, 13)]
    names = [f"S1/{date:%Y%m%d}" for date in dates]
    tags = [{"orbit": "37"}, {"orbit": "37"}, {"orbit": "139"}]
    ids = client.create_records([aoi_id] * 3, names, tags, dates)
    assert client.create_record(aoi_id, names[0], tags[0], dates[0], exist_ok=True) == ids[0]
    records = client.list_records("S1/*", tags={"orbit": ""}, aoi=aoi, with_aoi=True)
    assert [record.id for record in records] == ids
    assert [record.datetime for record in records] == dates
    assert [record.name for record in client.list_records(tags={"orbit": "37"}, from_time=dates[1], to_time=dates[2])] == [names[1]]
    assert client.record(ids[2]).tags == tags[2]
    assert refused(lambda: client.add_records_tags(ids, {"a": "b"})) == "UNIMPLEMENTED"

    # variable, palette
    client.create_palette("grey", [(0, 0, 0, 0, 255), (1, 255, 255, 255, 255)])
    dformat = entities.DataFormat.from_user(("int16", -1, 0, 1000))
    variable = client.create_variable("CoherenceVV", dformat, [""], unit="1", description="of radar", palette="grey")
    master = variable.instantiate("master", {"baseline": "6"})
    assert client.variable("CoherenceVV").instance("master").instance_id == master.instance_id
    assert client.variable(instance_id=master.instance_id).metadata == {"baseline": "6"}
    master.add_metadata("track", "37")
    variable.description = "of Sentinel-1"
    assert client.variable("CoherenceVV").description == "of Sentinel-1"
    assert [one.name for one in client.list_variables("coherence*(?i)")] == ["CoherenceVV"]
    assert refused(lambda: client.variable("nope")) == "NOT_FOUND"

    # index
    for image, record in zip(images, records):
        client.index_dataset(image, record, master, dformat)
    client.index_dataset(images[0], records[0], master, dformat)  # once more
    assert refused(lambda: client.index_dataset(images[0], records[1], master, dformat)) == "ALREADY_EXISTS"
    assert refused(lambda: client.index_dataset("/nope.tif", records[0], master, dformat)) == "INVALID_ARGUMENT"
    assert client.containers(images[0]).datasets[0].record_id == ids[0]

    # layouts, tiles
    layout = entities.Layout.regular("utm", "epsg:32632", 64, 20.0, origin=(400000.0, 5600000.0))
    client.create_layout(layout)
    client.create_layout(layout, exist_ok=True)
    got = client.layout("utm")
    assert (dict(got.grid_parameters), got.block_shape) == (layout.grid_parameters, layout.block_shape)
    tiles = client.tile_aoi(aoi, "utm")
    assert len(client.tile_aoi(aoi, resolution=20.0, crs="epsg:32632", shape=(64, 64))) > 0
    assert len(client.tile_aoi(aoi, layout=entities.Layout.web_mercator("web", 12))) > 0
    tile = next(tile for tile in tiles if tile.transform.c == 400000.0 and tile.transform.f == 5600000.0)

    # cubes
    params = entities.CubeParams.from_tile(tile, master, records=records)
    for compression in (0, -3, -2, 1, 9):
        cube, groups = client.get_cube(params, compression=compression, verbose=False)
        assert [group[0].id for group in groups] == ids
        assert all(np.array_equal(got[..., 0], pixels[:64, :64]) for got, pixels in zip(cube, expected))
    by_tags = entities.CubeParams.from_tile(tile, master, tags={"orbit": "37"})
    assert len(client.get_cube(by_tags, verbose=False)[0]) == 2
    headers, _ = client.get_cube(params, headers_only=True, verbose=False)
    assert len(headers) == 3
    client.get_xyz_tile(master, records[:1], 8537, 5499, 14, "tile.png")

    # downloader
    client.use_downloader(geocube.Downloader(address))
    cube, groups = client.get_cube(params, verbose=False)
    assert [group[0].id for group in groups] == ids
    assert all(np.array_equal(got[..., 0], pixels[:64, :64]) for got, pixels in zip(cube, expected))
    client.downloader = None

    # consolidation
    variable.config_consolidation(dformat)
    assert client.variable("CoherenceVV").consolidation_params.dformat == dformat
    job = client.consolidate("consolidation", master, "utm", records=records)
    client.wait_job(job, wait_secs=0.2, timeout_secs=120, verbose=True)
    assert job.state == "DONE", job
    assert len(job.refresh().tasks_from_logs()) > 0, job
    cube, _ = client.get_cube(params, verbose=False)
    assert all(np.array_equal(got[..., 0], pixels[:64, :64]) for got, pixels in zip(cube, expected))
    assert client.job("consolidation").state == "DONE"
    assert list(client.find_container_layouts(master, records=records)) == ["utm"]
    stuck = client.consolidate("stuck", master, secret_layout, records=records)
    while stuck.state != "INITIALISATIONFAILED":
        stuck.refresh()
    stuck.cancel()
    client.wait_job(stuck, wait_secs=0.2, timeout_secs=120, verbose=False)
    assert stuck.state == "FAILED"
    paused = client.consolidate(
        "paused", master, "utm", records=records, execution_level=entities.ExecutionLevel.STEP_BY_STEP_CRITICAL
    )
    client.wait_job(paused, wait_secs=0.2, timeout_secs=120, verbose=False)
    assert paused.state == "DONE", paused

    # the end
    admin = geocube.Admin(address, verbose=False)
    deletion = admin.admin_delete_datasets([master], records, execution_level=entities.ExecutionLevel.ASYNCHRONOUS)
    assert deletion.state == "DONE", deletion
    client.delete_records(records)
    variable.delete()
    assert client.list_variables() == []
    client.remove_terminated_jobs()
    assert client.list_jobs() == []
    print(json.dumps({"records": ids, "tiles": len(tiles)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:-1], sys.argv[-1])
