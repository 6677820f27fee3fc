"""Producers: each reads the files that its users have, and explicit settings take precedence."""

from __future__ import annotations

import re
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
from acdtask.jobs.ingest.alternatives import Alternatives
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
    assert outcome.plan.notes["excluded, name does not match"] == 1
    (made,) = (tmp_path / "cube/data").rglob("*.tif")
    with rasterio.open(made) as raster:
        np.testing.assert_allclose(raster.read(1), pixels * 1000, atol=2.6 if producer.dtype == "uint8" else 0.6)


@pytest.mark.parametrize(("name", "path", "start", "end"), EXAMPLES)
def test_no_two_producers_claim_a_name(name: ProducerName, path: str, start: str, end: str) -> None:
    patterns = {key: producer.pattern for key, producer in PRODUCERS.items() if not producer.kinds}
    fitting = [key for key, pattern in patterns.items() if FilenamePattern(pattern).match(path)]
    assert len(fitting) == 1
    assert fitting[0] in (PRODUCERS[name].kinds or (name,))


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
    (section,) = [text for text in sections if re.search(rf"--producer {name}`", text)]
    assert PRODUCERS[name].source in section
    for path, _, _ in PRODUCERS[name].examples[:1]:
        assert path.rpartition("/")[2] in section


GAMMA, ISCE = (
    "S1AA_20161223T070700_20170116T070658_VVP024_INT80_G_ueF_74C2",
    "S1_136231_IW2_20200604_20200616_VV_INT80_10C8",
)


def test_hyp3_takes_the_products_of_both_processors_and_passes_over_their_other_layers(tmp_path: Path) -> None:
    for number, name in enumerate((GAMMA, ISCE)):
        write_tiff(tmp_path / f"in/{name}/{name}_corr.tif", good_pixels(number))
        for layer in ("amp", "dem", "unw_phase", "water_mask"):
            write_tiff(tmp_path / f"in/{name}/{name}_{layer}.tif", good_pixels(9))
    outcome = ingest(tmp_path / "cube", source=str(tmp_path / "in"), producer="hyp3")
    records = open_site(str(tmp_path / "cube")).cube.records(RecordQuery())
    assert [record.name for record in records] == [f"{GAMMA}_corr", f"{ISCE}_corr"]
    assert [record.datetime.isoformat()[:19] for record in records] == ["2017-01-16T07:06:58", "2020-06-16T00:00:00"]
    assert [record.tags["polarisation"] for record in records] == ["VV", "VV"]
    assert outcome.plan.notes["excluded, name does not match"] == 8
    for number, name in enumerate((GAMMA, ISCE)):
        (made,) = (tmp_path / "cube/data").rglob(f"{name}_corr-*.tif")
        with rasterio.open(made) as raster:
            np.testing.assert_allclose(raster.read(1), good_pixels(number) * 1000, atol=0.6)


@pytest.mark.parametrize(("name", "kind"), [(GAMMA, "hyp3-gamma"), (ISCE, "hyp3-isce")])
def test_hyp3_makes_the_same_records_as_the_name_of_the_processor(name: str, kind: str, tmp_path: Path) -> None:
    write_tiff(tmp_path / f"in/{name}_corr.tif", good_pixels(1))
    ingest(tmp_path / "cube", source=str(tmp_path / "in"), producer="hyp3")
    assert "already in the cube" in ingest(tmp_path / "cube", source=str(tmp_path / "in"), producer=kind).lines[0]


@pytest.mark.parametrize("odd", ["my_20200604_20200616_corr.tif", "S1_136231_IW2_20200604_VV_INT80_10C8_corr.TIF"])
def test_hyp3_refuses_coherence_that_is_of_neither_processor(odd: str, tmp_path: Path) -> None:
    write_tiff(tmp_path / f"in/{ISCE}_corr.tif", good_pixels(1))
    write_tiff(tmp_path / "in" / odd, good_pixels(2))
    with pytest.raises(AcdError, match=odd) as caught:
        ingest(tmp_path / "cube", source=str(tmp_path / "in"), producer="hyp3")
    assert caught.value.code is ErrorCode.FILENAME_UNMATCHED
    assert not (tmp_path / "cube").exists()
    assert "--producer hyp3-gamma or hyp3-isce" in caught.value.fix
    ingest(tmp_path / "cube", source=str(tmp_path / "in"), producer="hyp3-isce")
    (made,) = (tmp_path / "cube/data").rglob("*.tif")
    with rasterio.open(made) as raster:
        np.testing.assert_allclose(raster.read(1), good_pixels(1) * 1000, atol=0.6)


def test_a_name_that_two_patterns_read_differently_is_refused() -> None:
    either = Alternatives("{date}_*.tif|*_{date}.tif")
    with pytest.raises(AcdError, match="20200101_20200202") as caught:
        either.match("20200101_20200202.tif")
    assert caught.value.code is ErrorCode.FILENAME_AMBIGUOUS
    named = either.match("20200101_20201399.tif")
    assert named is not None
    assert named.datetime.date().isoformat() == "2020-01-01"
    with pytest.raises(AcdError) as caught:
        either.match("20201399_x.tif")
    assert caught.value.code is ErrorCode.DATE_INVALID
    with pytest.raises(AcdError) as caught:
        Alternatives("{date}.tif|{date}.vrt")
    assert caught.value.code is ErrorCode.SETTING_INVALID
