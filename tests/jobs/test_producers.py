"""Producers: each name of the table reads the files that its users have, and what is given explicitly wins."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import rasterio

from acdtask.cli.options import settings_from
from acdtask.cube.model import RecordQuery
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.pattern import FilenamePattern
from acdtask.jobs.ingest.producers import PRODUCERS, ProducerName, advice_for
from acdtask.jobs.ingest.settings import IngestSettings
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.test_ingest import ingest

EXAMPLES = [
    pytest.param(name, *example, id=f"{name}-{number}")
    for name, producer in PRODUCERS.items()
    for number, example in enumerate(producer.examples)
]
PAGE = Path(__file__).parents[2] / "docs/how-to/get-images.md"


@pytest.mark.parametrize(("name", "path", "start", "end"), EXAMPLES)
def test_files_as_their_users_have_them_are_ingested(
    name: ProducerName, path: str, start: str, end: str, tmp_path: Path
) -> None:
    producer = PRODUCERS[name]
    pixels = good_pixels(1)
    if producer.dtype == "uint8":
        write_tiff(tmp_path / "in" / path, np.rint(pixels * 255).astype(np.uint8), nodata=None)
    else:
        write_tiff(tmp_path / "in" / path, pixels)
    write_tiff(tmp_path / "in" / Path(path).parent / "dem.tif", pixels)
    outcome = ingest(tmp_path / "cube", source=str(tmp_path / "in"), producer=name, polarisation="any")
    (record,) = open_site(str(tmp_path / "cube")).cube.records(RecordQuery())
    assert record.datetime.replace(tzinfo=None) == datetime.fromisoformat(end)
    assert datetime.fromisoformat(record.tags["start_datetime"]).replace(tzinfo=None) == datetime.fromisoformat(start)
    assert outcome.plan.notes["left out, name does not match"] == 1
    (made,) = (tmp_path / "cube/data").rglob("*.tif")
    with rasterio.open(made) as raster:
        np.testing.assert_allclose(raster.read(1), pixels * 1000, atol=2.6 if producer.dtype == "uint8" else 0.6)


@pytest.mark.parametrize(("name", "path", "start", "end"), EXAMPLES)
def test_no_two_producers_claim_a_name(name: str, path: str, start: str, end: str) -> None:
    fitting = [key for key, one in PRODUCERS.items() if FilenamePattern(one.pattern).match(path) is not None]
    assert fitting == [name]


@pytest.mark.parametrize(("name", "path", "start", "end"), EXAMPLES)
def test_a_source_of_a_producer_that_was_not_named_is_told_its_name(
    name: str, path: str, start: str, end: str, tmp_path: Path
) -> None:
    advice = advice_for(path)
    assert advice is not None
    assert f"--producer {name}" in advice
    write_tiff(tmp_path / "in" / path, good_pixels(1))
    with pytest.raises(AcdError, match=f"--producer {name}") as caught:
        ingest(tmp_path / "cube", source=str(tmp_path / "in"), pattern="nothing_{date}.tif")
    assert caught.value.code is ErrorCode.FILENAME_UNMATCHED


def test_an_explicit_option_wins_and_a_default_does_not() -> None:
    ready = settings_from(IngestSettings, {"source": "s", "producer": "licsar"})
    assert (ready.pattern, ready.source_nodata, ready.source_maximum) == ("{start}_{end}.geo.cc.tif", 0, 255)
    given = {"source": "s", "producer": "licsar", "pattern": "{date}.tif", "source_maximum": "1", "source_nodata": "7"}
    mine = settings_from(IngestSettings, given)
    assert (mine.pattern, mine.source_nodata, mine.source_maximum) == ("{date}.tif", 7, 1)
    default = IngestSettings.model_fields["pattern"].default
    of_workflow = settings_from(IngestSettings, {"source": "s", "producer": "licsar", "pattern": default})
    assert of_workflow.pattern == ready.pattern
    assert IngestSettings.model_validate(mine.model_dump(mode="json")) == mine


def test_a_range_that_is_for_bytes_is_not_used_for_floats(tmp_path: Path) -> None:
    """Older LiCSAR files are floats from 0 to 1: read as 0 to 255, they would be zero everywhere."""
    write_tiff(tmp_path / "in/20141024_20150128.geo.cc.tif", good_pixels(1), nodata=0)
    with pytest.raises(AcdError, match="float32") as caught:
        ingest(tmp_path / "cube", source=str(tmp_path / "in"), producer="licsar")
    assert caught.value.code is ErrorCode.INPUT_OUT_OF_RANGE
    assert "--source-maximum 1" in caught.value.fix
    ingest(tmp_path / "cube", source=str(tmp_path / "in"), producer="licsar", source_minimum=0, source_maximum=1)
    (made,) = (tmp_path / "cube/data").rglob("*.tif")
    with rasterio.open(made) as raster:
        np.testing.assert_allclose(raster.read(1), good_pixels(1) * 1000, atol=0.6)


def test_an_unknown_producer_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(AcdError, match="hyp3-gamma"):
        settings_from(IngestSettings, {"source": "s", "producer": "hyp4"})


@pytest.mark.parametrize("name", get_args(ProducerName))
def test_the_page_has_a_section_for_each_producer(name: ProducerName) -> None:
    sections = PAGE.read_text().split("\n## ")[1:]
    (section,) = [text for text in sections if f"--producer {name}" in text]
    assert PRODUCERS[name].source in section
    for path, _, _ in PRODUCERS[name].examples[:1]:
        assert path.rpartition("/")[2] in section
