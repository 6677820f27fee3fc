"""Ingest reads only GeoTIFFs, and VRTs of GeoTIFFs, below its source; other documents in disguise are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tests.jobs.rasters import good_pixels, write_tiff
from tests.storage.forbidden import SECRET_TEXT, canary_server, mosaic_vrt, raw_vrt, wms

SIZE = 32
NAME = "S1_20210101_20210107_VV"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    write_tiff(tmp_path / "outside/secret.tif", good_pixels(2, SIZE))
    (tmp_path / "outside/secret.txt").write_text(SECRET_TEXT * 100)
    (tmp_path / "source").mkdir()
    return tmp_path / "outside"


def ingest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`acdtask ingest local` into `folder/cube`, as a user runs it."""
    command = [sys.executable, "-m", "acdtask", "ingest", "local", "--cube", str(folder / "cube"), *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ACD_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def write_item(source: Path, href: str) -> str:
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "S1A",
        "geometry": None,
        "properties": {"datetime": "2021-01-07T00:00:00Z"},
        "links": [],
        "assets": {"data": {"href": href}},
    }
    path = source / "item.json"
    path.write_text(json.dumps(item))
    return str(path)


@pytest.mark.parametrize("kind", ["raw", "mosaic", "web", "wms"])
def test_a_document_called_tif_is_no_raster(outside: Path, tmp_path: Path, kind: str) -> None:
    with canary_server() as canary:
        text = {
            "raw": raw_vrt(outside / "secret.txt", SIZE, SIZE),
            "mosaic": mosaic_vrt(outside / "secret.tif", SIZE, SIZE),
            "web": mosaic_vrt(f"/vsicurl/{canary.address}/a.tif", SIZE, SIZE),
            "wms": wms(canary.address, SIZE, SIZE),
        }[kind]
        (tmp_path / f"source/{NAME}.tif").write_text(text)
        done = ingest(tmp_path, "--source", str(tmp_path / "source"), "--source-nodata", "0")
        assert canary.requests == []
    assert done.returncode == 66
    assert "ACD-201" in done.stderr
    assert f"{NAME}.tif" in done.stderr
    assert SECRET_TEXT not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "cube").rglob("*.tif"))


@pytest.mark.parametrize("suffix", [".ovr", ".aux.xml", ".msk"])
def test_a_file_beside_a_raster_leads_nowhere(outside: Path, tmp_path: Path, suffix: str) -> None:
    """Overview files are ignored. A mask defines valid pixels, so a mask file that is not a GeoTIFF is refused."""
    path = write_tiff(tmp_path / f"source/{NAME}.tif", good_pixels(1, SIZE))
    with canary_server() as canary:
        text = mosaic_vrt(f"/vsicurl/{canary.address}/a.tif", SIZE // 2, SIZE // 2)
        if suffix == ".aux.xml":
            web = f'<MDI key="OVERVIEW_FILE">/vsicurl/{canary.address}/a.ovr</MDI>'
            text = f'<PAMDataset><Metadata domain="OVERVIEWS">{web}</Metadata></PAMDataset>'
        Path(f"{path}{suffix}").write_text(text)
        done = ingest(tmp_path, "--source", str(tmp_path / "source"))
        assert canary.requests == []
    if suffix != ".msk":
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 66
    assert "ACD-201" in done.stderr
    assert f"{NAME}.tif.msk cannot be read" in done.stderr
    assert not list((tmp_path / "cube").rglob("*.tif"))


def test_a_mask_file_without_a_place_as_gdal_writes_it_is_used_without_a_word(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / f"source/{NAME}.tif", good_pixels(1, SIZE))
    valid = np.ones((SIZE, SIZE), bool)
    valid[0] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as raster:
        raster.write_mask(valid)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(f"{path}.msk") as mask:
        assert mask.transform.is_identity
    done = ingest(tmp_path, "--source", str(tmp_path / "source"))
    assert done.returncode == 0, done.stderr
    assert "eoreference" not in done.stdout + done.stderr
    (stored,) = (tmp_path / "cube").rglob("*.tif")
    with rasterio.open(stored) as raster:
        np.testing.assert_array_equal(raster.read(1) != raster.nodata, valid)


def test_a_vrt_of_a_stac_item_is_ingested_if_it_stays_below_the_document(outside: Path, tmp_path: Path) -> None:
    write_tiff(tmp_path / "source/a.tif", good_pixels(1, SIZE))
    vrt = mosaic_vrt("a.tif", SIZE, SIZE, relative=True, dtype="Float32")
    (tmp_path / "source/a.vrt").write_text(vrt)
    done = ingest(tmp_path, "--source", write_item(tmp_path / "source", "./a.vrt"), "--asset", "data")
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "cube").rglob("*.tif")
    with rasterio.open(made) as raster:
        np.testing.assert_array_equal(raster.read(1), np.rint(good_pixels(1, SIZE).astype(float) * 1000))


@pytest.mark.parametrize("kind", ["raw", "mosaic", "relative", "web"])
def test_a_vrt_of_a_stac_item_that_leads_out_is_refused_and_named(outside: Path, tmp_path: Path, kind: str) -> None:
    with canary_server() as canary:
        text = {
            "raw": raw_vrt(outside / "secret.txt", SIZE, SIZE),
            "mosaic": mosaic_vrt(outside / "secret.tif", SIZE, SIZE, dtype="Float32"),
            "relative": mosaic_vrt("../outside/secret.tif", SIZE, SIZE, relative=True, dtype="Float32"),
            "web": mosaic_vrt(f"/vsicurl/{canary.address}/a.tif", SIZE, SIZE),
        }[kind]
        (tmp_path / "source/a.vrt").write_text(text)
        source = write_item(tmp_path / "source", "./a.vrt")
        done = ingest(tmp_path, "--source", source, "--asset", "data", "--source-nodata", "0")
        assert canary.requests == []
    assert done.returncode == 66
    assert "ACD-217" in done.stderr
    assert str(tmp_path / "source/a.vrt") in done.stderr
    assert SECRET_TEXT not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "cube").rglob("*.tif"))
