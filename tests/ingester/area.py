"""A payload, and the scenes of its catalogue."""

from __future__ import annotations

import json
from typing import Any

from acdtask.cube.aoi import Aoi, load_aoi

PAYLOAD: dict[str, Any] = {
    "type": "Feature",
    "geometry": {"type": "Polygon", "coordinates": [[[6.9, 50.9], [7.0, 50.9], [7.0, 51.0], [6.9, 51.0], [6.9, 50.9]]]},
    "name": "koln",
    "start_time": "2021-01-01T00:00:00Z",
    "end_time": "2021-12-31T00:00:00Z",
    "scene_type": {"constellation": "sentinel1", "parameters": {"producttype": "SLC"}},
    "scene_graph_name": "S1Preprocessing",
    "tile_graph_name": "S1BackscatterCoherence",
    "graph_config": {"projection": "EPSG:32632", "resolution": "20"},
    "layers": {"coh_VV": {"variable": "CoherenceVV", "instance": "master"}},
    "record_tags": {"area": "koln"},
}


def payload(**changes: Any) -> str:
    """The payload as text."""
    return json.dumps(PAYLOAD | changes)


def area(**changes: Any) -> Aoi:
    """The payload."""
    return load_aoi(payload(**changes))


def passes(count: int, bursts: int = 2) -> dict[str, tuple[str, dict[str, tuple[str, int]]]]:
    """A catalogue with a scene every twelve days, each with the same bursts."""
    parts = {f"T15_IW1_{nr}": ("IW1", nr) for nr in range(1, bursts + 1)}
    dates = [f"2021-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(6, 6 + 12 * count, 12)]
    return {f"S1A_IW_SLC__1SDV_{date.replace('-', '')}": (f"{date}T05:42:40Z", parts) for date in dates}
