"""Uses of a layout: consolidated images and results."""

from __future__ import annotations

import json
import re

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Dataset
from acdtask.errors import ErrorCode
from acdtask.storage.seal import unseal

__all__ = ["uses_of_layout"]

MANIFEST = re.compile(r"products/(?P<aoi>.+)/(?P<job>baseline|monitor)/(?P<id>[0-9a-f]{16})/manifests/\d+\.json")


def uses_of_layout(cube: LocalCube, name: str) -> list[str]:
    """Descriptions of the images and results that use a layout, incomplete results included. PRODUCT_DAMAGED."""
    uses = [
        f"images of {instance.variable}:{instance.name}, consolidated"
        for variable in cube.variables()
        for instance in cube.instances(variable.name)
        if any(_is_consolidated_to(name, dataset) for dataset in cube.datasets(instance.variable, instance.name))
    ]
    newest = {key.rpartition("/")[0]: key for key in cube.store.list("products") if MANIFEST.fullmatch(key)}
    for key in newest.values():
        body = cube.store.find(key)
        manifest = json.loads(unseal(body, cube.store.address_of(key), ErrorCode.PRODUCT_DAMAGED)) if body else {}
        if manifest.get("layout") == name:
            job = "the baseline" if "/baseline/" in key else "the monitoring"
            uses.append(f"{job} {manifest['content_id']} of {manifest['variable']} in {manifest['aoi']}")
    return sorted(uses)


def _is_consolidated_to(layout: str, dataset: Dataset) -> bool:
    """Whether a dataset is an image consolidated to the layout; results are below `products/`."""
    return dataset.layout == layout and not dataset.uri.startswith("products/")
