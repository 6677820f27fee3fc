"""Fifty monitors in one release: all render, and the release fits what Helm and Kubernetes store."""

from __future__ import annotations

import base64
import gzip
import json
import math
from typing import Any

import pytest

from tests.helm.conftest import CHART, Object, Render, example, of_kind

pytestmark = pytest.mark.helm

MONITORS = 50
POINTS = 200
"""Points of an area's outline, as a town's boundary has them."""
SECRET = 1 << 20
"""Bytes that a secret of Kubernetes may have, and thus a release of Helm."""
OBJECT = 3 << 19
"""Bytes that etcd takes in one request by default."""


def outline(number: int) -> list[list[float]]:
    """An outline without symmetry, so that it compresses as badly as a drawn one."""
    angles = [2 * math.pi * point / POINTS for point in range(POINTS)]
    radii = [0.2 + 0.02 * math.sin(7 * angle + number) + 0.01 * math.sin(31.7 * angle * number) for angle in angles]
    ring = [
        [round(7 + number / 10 + radius * math.cos(angle), 6), round(51 + radius * math.sin(angle), 6)]
        for angle, radius in zip(angles, radii, strict=True)
    ]
    return [*ring, ring[0]]


def area(number: int) -> Object:
    """The AOI of a monitor."""
    return {
        "type": "Polygon",
        "coordinates": [outline(number)],
        "name": f"area-{number:02}",
        "start_time": "2020-01-01T00:00:00Z",
        "end_time": "2030-01-01T00:00:00Z",
        "graph_config": {"projection": "EPSG:32632", "resolution": "20"},
    }


def values() -> Object:
    """The values of an example, with fifty monitors in place of its own."""
    monitors: list[dict[str, Any]] = [
        {
            "name": f"area-{number:02}",
            "schedules": [f"{number} 6 * * *"],
            "template": "acd-all",
            "settings": {
                "layout": "utm",
                "ingest-source": f"s3://passes/area-{number:02}",
                "baseline-end": "2021-08-01",
            },
            "aoi": area(number),
        }
        for number in range(MONITORS)
    ]
    return {**example("one-monitor"), "monitors": monitors}


def test_each_has_a_schedule_and_an_area(render: Render) -> None:
    rendered = render(values())
    names = {f"acd-area-{number:02}" for number in range(MONITORS)}
    assert names <= {schedule["metadata"]["name"] for schedule in of_kind(rendered, "CronWorkflow")}
    areas = [config for config in of_kind(rendered, "ConfigMap") if config["metadata"]["name"].startswith("acd-aoi-")]
    assert len({config["metadata"]["name"] for config in areas}) >= MONITORS
    assert max(len(json.dumps(resource)) for resource in rendered) < OBJECT


def test_the_release_fits_into_its_secret(render: Render) -> None:
    """Helm stores chart, values and manifests as JSON, compressed and in base64."""
    rendered = render(values())
    files = {
        str(path.relative_to(CHART)): base64.b64encode(path.read_bytes()).decode()
        for path in sorted(CHART.rglob("*"))
        if path.is_file()
    }
    release = json.dumps({"chart": files, "config": values(), "manifest": [json.dumps(one) for one in rendered]})
    assert len(base64.b64encode(gzip.compress(release.encode(), 9))) < SECRET * 3 / 4
