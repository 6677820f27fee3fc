"""Filenames: every form of a date that the field writes, and no guess where there are several."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from acdtask.cube.model import RecordQuery
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.pattern import FilenamePattern
from acdtask.jobs.ingest.settings import IngestSettings
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.test_ingest import ingest

DEFAULT = IngestSettings.model_fields["pattern"].default
PAIR = (datetime(2020, 6, 4, tzinfo=UTC), datetime(2020, 6, 16, tzinfo=UTC))

READ = [
    (DEFAULT, "S1_20200604_20200616_VV.tif"),
    (DEFAULT, "deep/er/S1_20200604_20200616_VV.tif"),
    (DEFAULT, "20200604_20200616.tif"),
    (DEFAULT, "S1_20200604_20200616_processed_20230405.tif"),
    (DEFAULT, "S1A_12345678_20200604_20200616.tif"),
    ("*{start}-{end}*.tif", "cropA_20200604-20200616_VV_8rlks_cc.tif"),
    ("COH_{start}_{end}_*.tif", "COH_20200604_20200616_20230405.tif"),
    ("*_{start:%Y-%m-%d}_{end:%Y-%m-%d}*.tif", "S1_2020-06-04_2020-06-16.tif"),
    ("*{start:%d%b%Y}_{end:%d%b%Y}.tif", "coh_IW1_VV_04Jun2020_16Jun2020.tif"),
    ("*{start:%d%b%Y}_{end:%d%b%Y}.tif", "coh_IW1_VV_04JUN2020_16jun2020.tif"),
    ("*{start:%d-%B-%Y}_{end:%d-%B-%Y}.tif", "coh_04-june-2020_16-June-2020.tif"),
    ("*{start:%y%m%d}_{end:%y%m%d}.tif", "coh_200604_200616.tif"),
    ("*{start:%Y%j}_{end:%Y%j}.tif", "coh_2020156_2020168.tif"),
    ("{start}_{end}/filt_fine.cor.tif", "merged/interferograms/20200604_20200616/filt_fine.cor.tif"),
    ("{start}/{end}/*.tif", "x/20200604/20200616/a.tif"),
    ("{start}_{end}/*/coh_*.tif", "20200604_20200616/IW1/coh_VV.tif"),
]


@pytest.mark.parametrize(("pattern", "path"), READ)
def test_a_pattern_reads_the_dates_of_a_pair(pattern: str, path: str) -> None:
    named = FilenamePattern(pattern).match(path)
    assert named is not None
    assert (named.start, named.datetime) == PAIR


@pytest.mark.parametrize("ending", ["tif", "TIF", "tiff", "TIFF", "Tif"])
@pytest.mark.parametrize("pattern_ending", ["tif", "tiff", "TIF"])
def test_a_pattern_that_ends_in_tif_takes_every_spelling_of_it(ending: str, pattern_ending: str) -> None:
    pattern = FilenamePattern(f"*{{start}}_{{end}}*.{pattern_ending}")
    assert pattern.match(f"S1_20200604_20200616_VV.{ending}") is not None
    assert pattern.match("S1_20200604_20200616_VV.vrt") is None
    assert pattern.match("S1_20200604_20200616_VV.tif.aux") is None


UNREAD = [
    (DEFAULT, "dem.tif"),
    (DEFAULT, "S1_2020-06-04_2020-06-16.tif"),
    (DEFAULT, "S1_20200604120000_20200616120000.tif"),
    (DEFAULT, "20200604_20200616/coh.tif"),
    ("{start}_{end}/a.tif", "20200604_20200616/b.tif"),
    ("{start}_{end}/a.tif", "x20200604_20200616/a.tif"),
    ("*{start:%d%b%Y}_{end:%d%b%Y}.tif", "coh_04Juin2020_16Juin2020.tif"),
]


@pytest.mark.parametrize(("pattern", "path"), UNREAD)
def test_what_a_pattern_does_not_fit_is_not_read(pattern: str, path: str) -> None:
    assert FilenamePattern(pattern).match(path) is None


AMBIGUOUS = [
    (DEFAULT, "COH_20200604_20200616_20230405.tif", ["2020-06-04", "2020-06-16", "2023-04-05"]),
    (DEFAULT, "in/COH_20200604_20200616_20230405_v2.tif", ["2020-06-04", "2020-06-16", "2023-04-05"]),
    (DEFAULT, "20230405_20200604_20200616.tif", ["2020-06-04", "2020-06-16", "2023-04-05"]),
    (DEFAULT, "a_20200604_20200616_b_20200628_20200710.tif", ["2020-06-04", "2020-06-16", "2020-06-28", "2020-07-10"]),
    ("*{date}*.tif", "S1_20200604_20200616_VV.tif", ["2020-06-04", "2020-06-16"]),
    ("*{start:%d%b%Y}_{end:%d%b%Y}*.tif", "04Jun2020_16Jun2020_05Apr2023.tif", ["2020-06-04", "2023-04-05"]),
]


@pytest.mark.parametrize(("pattern", "path", "dates"), AMBIGUOUS)
def test_more_dates_than_fields_are_never_guessed(pattern: str, path: str, dates: list[str]) -> None:
    with pytest.raises(AcdError, match="ambiguous") as caught:
        FilenamePattern(pattern).match(path)
    assert caught.value.code is ErrorCode.FILENAME_AMBIGUOUS
    assert all(date in caught.value.detail for date in dates)


def command(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "acdtask", "ingest", "local", "--workers", "1", "--cube", f"{folder}/cube", *options],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=folder,
        env={**os.environ, "ACD_LOG": "text", **environment},
    )


@pytest.mark.parametrize("name", ["COH_20200604_20200616_20230405.tif", "x_20200604_20200616_20230405_VV.TIFF"])
def test_the_pattern_that_an_ambiguous_name_is_told_reads_it_rightly(name: str, tmp_path: Path) -> None:
    write_tiff(tmp_path / "in" / name, good_pixels(1))
    refused = command(tmp_path, "--source", "in")
    (advised,) = re.findall(r"such as '([^']+)'", refused.stderr)
    done = command(tmp_path, "--source", "in", "--pattern", advised)
    assert done.returncode == 0, done.stderr
    (record,) = open_site(f"{tmp_path}/cube").cube.records(_all())
    assert (record.tags["start_datetime"][:10], record.datetime) == ("2020-06-04", PAIR[1])
    (made,) = (tmp_path / "cube/data").rglob("*.tif")
    with rasterio.open(made) as raster:
        np.testing.assert_array_equal(raster.read(1), np.rint(good_pixels(1).astype(float) * 1000))


def test_months_are_english_whatever_the_locale(tmp_path: Path) -> None:
    write_tiff(tmp_path / "in/coh_04Oct2020_16Dec2020.tif", good_pixels(1))
    pattern = "coh_{start:%d%b%Y}_{end:%d%b%Y}.tif"
    done = command(tmp_path, "--source", "in", "--pattern", pattern, LC_ALL="de_DE.UTF-8", LANG="de_DE.UTF-8")
    assert done.returncode == 0, done.stderr
    assert [str(record.datetime.date()) for record in open_site(f"{tmp_path}/cube").cube.records(_all())] == [
        "2020-12-16"
    ]


def test_records_with_dates_in_folders_have_names_of_their_own(tmp_path: Path) -> None:
    for pair in ("20200604_20200616", "20200616_20200628"):
        write_tiff(tmp_path / f"in/merged/{pair}/filt_fine.cor.tif", good_pixels(1))
    ingest(tmp_path / "cube", source=str(tmp_path / "in"), pattern="{start}_{end}/filt_fine.cor.tif")
    names = [record.name for record in open_site(f"{tmp_path}/cube").cube.records(_all())]
    assert names == ["20200604_20200616/filt_fine_cor", "20200616_20200628/filt_fine_cor"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("S1_*.tif", "neither {date} nor {end}"),
        ("{start}.tif", "neither {date} nor {end}"),
        ("{date:%m%d}.tif", "has no year"),
        ("{date:%Y%d}.tif", "no month"),
        ("{date:%Y%Q}.tif", "directive other than"),
        ("{date:%Y%}.tif", "directive other than"),
        ("{date}_{tag:%Y}.tif", "neither a date nor a tag"),
        ("{date}}.tif", "a brace"),
    ],
)
def test_a_pattern_that_cannot_be_is_a_wrong_setting(pattern: str, words: str) -> None:
    with pytest.raises(AcdError) as caught:
        FilenamePattern(pattern)
    assert caught.value.code is ErrorCode.SETTING_INVALID
    assert words in caught.value.detail


def test_a_tag_may_have_a_number_of_letters() -> None:
    named = FilenamePattern("S1_{end}_{polarisation:2}*.tif").match("S1_20200616_VVP012_x.tif")
    assert named is not None
    assert named.tags == {"polarisation": "VV"}


def test_ten_thousand_names_are_matched_in_no_time() -> None:
    pattern = FilenamePattern(DEFAULT)
    names = [f"S1A_IW_{number:08}_20200604_20200616_VV_coherence.tif" for number in range(10_000)]
    begun = time.process_time()
    assert all(pattern.match(name) is not None for name in names)
    assert time.process_time() - begun < 3


def _all() -> RecordQuery:
    return RecordQuery()
