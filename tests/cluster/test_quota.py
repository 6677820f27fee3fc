"""The quota and the limits of docs/how-to/operate.md let the chart's workflows run."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.cluster.conftest import NewPlace
from tests.cluster.scenes import monitor_of, parameters
from tests.docs.pages import blocks_of, text_of


def test_a_run_ends_well_within_the_quota_of_the_page(new_place: NewPlace, scene: Path, tmp_path: Path) -> None:
    place = new_place("quota")
    (body,) = [block.body for block in blocks_of(text_of("docs/how-to/operate.md")) if block.file == "quota.yaml"]
    place.apply(*({**item, "metadata": {"name": "acd"}} for item in yaml.safe_load_all(body)))
    place.put_images(sorted((scene / "images").iterdir()))
    place.install({"monitors": [monitor_of(scene)]}, tmp_path)
    workflow = place.ended(place.submit("cronworkflow/acd-koln", parameters(place.inbox)))
    assert workflow.phase == "Succeeded", workflow.why()
