"""What pystac would cost: seconds, memory and start-up for writing and reading STAC items, beside acd's own code.

Each way runs in a process of its own, so that imports and memory count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from resource import RUSAGE_SELF, getrusage
from typing import Any

ADDRESS = "/cube/data/items.json"


def inputs(count: int) -> list[tuple[Any, Any]]:
    """Acquisitions with one image each."""
    import shapely

    from acdtask.cube.model import Dataset, Record
    from acdtask.raster.grid import Grid

    grid = Grid(crs="EPSG:32632", transform=(20, 0, 3e5, 0, -20, 5.6e6), width=1024, height=1024)
    pairs = []
    for k in range(count):
        record = Record(
            name=f"S1/{k:06d}",
            datetime=datetime(2021, 1, 7, tzinfo=UTC),
            tags={"orbit": "37", "polarisation": "VV", "start_datetime": "2021-01-01T05:30:00+00:00"},
            footprint=shapely.geometry.mapping(shapely.box(7, 50, 8, 51)),
        )
        dataset = Dataset(
            record_id=record.id,
            variable="CoherenceVV",
            instance="master",
            uri=f"data/{k:06d}/coherence.tif",
            grid=grid,
            dformat=_variable().dformat,
        )
        pairs.append((record, dataset))
    return pairs


def _variable() -> Any:
    from acdtask.cube.model import Variable
    from acdtask.raster.data_format import DataFormat

    dformat = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)
    return Variable(name="CoherenceVV", dformat=dformat, scale=0.001)


def documents(pairs: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Items as an ingest writes them."""
    from acdtask.cube.stac.items import stac_item

    return [
        stac_item(record, [dataset], [_variable()], item_id=f"S1_{k:06d}", href=f"data/{k:06d}/item.json")
        for k, (record, dataset) in enumerate(pairs)
    ]


def read_with_acd(texts: list[str]) -> None:
    """Check each item, and make its hrefs absolute."""
    from acdtask.cube.stac.read import usable_items

    usable_items((json.loads(text) for text in texts), ADDRESS)


def read_with_pystac(texts: list[str]) -> None:
    """The same with pystac."""
    import pystac

    for text in texts:
        item = pystac.Item.from_dict(json.loads(text), preserve_dict=False)
        item.set_self_href(ADDRESS)
        item.make_asset_hrefs_absolute()


def write_with_pystac(items: list[dict[str, Any]]) -> None:
    """Build each item from values that `stac_item` has worked out, and turn it into JSON: pystac's share alone."""
    import pystac
    from pystac.utils import str_to_datetime

    for document in items:
        properties = dict(document["properties"])
        item = pystac.Item(
            id=document["id"],
            geometry=document["geometry"],
            bbox=document["bbox"],
            datetime=str_to_datetime(properties.pop("datetime")),
            start_datetime=str_to_datetime(properties.pop("start_datetime")),
            end_datetime=str_to_datetime(properties.pop("end_datetime")),
            properties=properties,
            stac_extensions=document["stac_extensions"],
        )
        for name, asset in document["assets"].items():
            fields = {key: value for key, value in asset.items() if key not in ("href", "type", "roles")}
            item.add_asset(
                name, pystac.Asset(asset["href"], media_type=asset["type"], roles=asset["roles"], extra_fields=fields)
            )
        json.dumps(item.to_dict(include_self_link=False, transform_hrefs=False))


def measure(way: str, count: int) -> dict[str, float]:
    """Seconds, and MiB beyond what the process had before."""
    pairs = inputs(count)
    items = documents(pairs[:1] if way == "write acd" else pairs)
    texts = [json.dumps(item) for item in items]
    works: dict[str, Callable[[], object]] = {
        "write acd": lambda: [json.dumps(item) for item in documents(pairs)],
        "write pystac": lambda: write_with_pystac(items),
        "read acd": lambda: read_with_acd(texts),
        "read pystac": lambda: read_with_pystac(texts),
    }
    before, begin = getrusage(RUSAGE_SELF), time.process_time()
    works[way]()
    seconds = time.process_time() - begin
    return {"seconds": seconds, "mib": (getrusage(RUSAGE_SELF).ru_maxrss - before.ru_maxrss) / 1024}


def import_seconds(module: str) -> float:
    """The median of seven processes that only import a module, less that of Python alone."""

    def once(code: str) -> float:
        code += "; import time; print(time.process_time())"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return float(done.stdout)

    times = [sorted(once(code) for _ in range(7))[3] for code in (f"import {module}", "pass")]
    return times[0] - times[1]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--way", default="")
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measure(given.way, given.count)))
        return
    print(f"import pystac: {import_seconds('pystac') * 1000:.0f} ms of CPU time")
    for way in ("write acd", "write pystac", "read acd", "read pystac"):
        command = [sys.executable, "-m", "benchmarks.stac_speed", "--count", str(given.count), "--way", way]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        micros = result["seconds"] / given.count * 1e6
        print(f"{way:<13} {micros:6.0f} µs an item, {result['mib']:6.1f} MiB more")


if __name__ == "__main__":
    main()
