"""The environment of an object store: faults are named and never cause a panic; public buckets need one variable."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage import backend
from acdtask.storage.store import Store
from tests.jobs.rasters import good_pixels, write_tiff
from tests.storage.public_bucket import PublicBucket, public_bucket

NAME = "S1_20200104_20200116_VV.tif"


@pytest.fixture(autouse=True)
def _no_aws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "s3_address" in request.fixturenames:  # the test needs the server of the environment
        return
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(backend, "RETRIES", 1)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[PublicBucket]:
    data = write_tiff(tmp_path / NAME, good_pixels(1)).read_bytes()
    with public_bucket("pub", {f"coh/{NAME}": data}) as running:
        yield running


def keys(monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r", **more}.items():
        monkeypatch.setenv(name, value)


def refusal(url: str) -> AcdError:
    with pytest.raises(AcdError) as caught:
        Store.at(url).fingerprints("")
    return caught.value


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("127.0.0.1:9000", "does not begin with http"),
        ("localhost:9000", "does not begin with http"),
        ("s3.example.org", "does not begin with http"),
        ("//s3.example.org", "does not begin with http"),
        ("ftp://s3.example.org", "does not begin with http"),
        ("http:s3.example.org", "does not begin with http"),
        (" http://127.0.0.1:9000", "contains whitespace"),
        ("http://127.0.0.1:9000\n", "contains whitespace"),
        ("http://a b", "contains whitespace"),
        ("http://", "no valid host"),
        ("http://:9000", "no valid host"),
        ("http://ä.example", "no valid host"),
        ("http://[::1", "not an address"),
        ("http://h:99999", "not an address"),
        ("http://h:port", "not an address"),
        ("http://h:0", "no valid host"),
        ("http://h/?x=1", "only have a host"),
        ("http://user:secret@h", "only have a host"),
    ],
)
def test_an_endpoint_that_is_not_an_address_is_named(
    variable: str, text: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys(monkeypatch, **{variable: text})
    for url in ("s3://bucket/x", "s3://bucket"):
        error = refusal(url)
        assert error.code is ErrorCode.ENDPOINT_INVALID
        assert error.detail.startswith(f"{variable} is ")
        assert fault in error.detail
        assert "secret" not in str(error)


def test_an_invalid_endpoint_does_not_matter_for_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    path = write_tiff(tmp_path / NAME, good_pixels(1))
    with rasterio.Env(**Store.gdal_options()), rasterio.open(path) as raster:
        assert raster.count == 1


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_endpoint_may_end_in_a_slash_and_be_in_capitals(
    ending: str, bucket: PublicBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys(monkeypatch, AWS_ENDPOINT_URL=bucket.server.address.replace("http", "HTTP") + ending)
    assert list(Store.at("s3://pub/coh").fingerprints("")) == [NAME]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("AWS_REGION", "us east"),
        ("AWS_REGION", "eu-1\n"),
        ("AWS_ACCESS_KEY_ID", "k\n"),
        ("AWS_SECRET_ACCESS_KEY", "secret\n"),
        ("AWS_SESSION_TOKEN", "secret\ntoken"),
        ("AWS_SKIP_SIGNATURE", "perhaps"),
        ("AWS_NO_SIGN_REQUEST", "perhaps"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "perhaps"),
        ("AWS_CHECKSUM_ALGORITHM", "perhaps"),
        ("AWS_CONDITIONAL_PUT", "perhaps"),
    ],
)
def test_an_invalid_variable_is_named_and_no_secret_is_shown(
    variable: str, text: str, bucket: PublicBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys(monkeypatch, **(bucket.environment | {variable: text}))
    error = refusal("s3://pub/coh")
    assert error.code is ErrorCode.STORE_CONFIG_INVALID
    assert variable in error.detail
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "url", ["s3://my bucket/x", "s3://*/x", "s3://b\n/x", "s3://Bücket/x", "s3://b/x\0y", "s3://?/x"]
)
def test_an_invalid_bucket_name_is_refused_before_any_request(url: str) -> None:
    with pytest.raises(AcdError) as caught:
        Store.at(url)
    assert caught.value.code is ErrorCode.ADDRESS_INVALID


def test_a_panic_is_an_error_with_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore panics for an unchecked bucket name that makes its URL invalid."""
    keys(monkeypatch, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    with pytest.raises(AcdError, match="AWS_ENDPOINT_URL") as caught:
        Store(None, "my bucket").fingerprints("")
    assert caught.value.code is ErrorCode.STORE_CONFIG_INVALID


@pytest.mark.parametrize(
    "given",
    [
        {"AWS_NO_SIGN_REQUEST": "YES"},
        {"AWS_SKIP_SIGNATURE": "true"},
        {"AWS_NO_SIGN_REQUEST": "1", "AWS_SKIP_SIGNATURE": "false"},
        {"AWS_NO_SIGN_REQUEST": "YES", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"},
    ],
)
def test_one_variable_is_enough_for_a_public_bucket(
    given: dict[str, str], bucket: PublicBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {**bucket.environment, **given}.items():
        monkeypatch.setenv(name, value)
    begun = time.monotonic()
    store = Store.at("s3://pub/coh")
    assert list(store.fingerprints("")) == [NAME]
    with rasterio.Env(**store.gdal_options()), rasterio.open(store.gdal_path(NAME)) as raster:
        np.testing.assert_array_equal(raster.read(1), good_pixels(1))
    assert time.monotonic() - begun < 10, "a library looked for credentials"
    assert bucket.signed == 0


def test_a_public_bucket_is_ingested_into_a_folder(bucket: PublicBucket, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "acdtask",
            *f"ingest local --workers 1 --cube {tmp_path}/c --source s3://pub/coh".split(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**clean, **bucket.environment, "AWS_NO_SIGN_REQUEST": "YES", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "c/data").rglob("*.tif")
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(1), np.rint(good_pixels(1).astype(float) * 1000))
    assert bucket.signed == 0


READABLE = [
    *("a b.tif", "p+q.tif", "ä ö.tif", "日本.tif", "e=1&f.tif", "p%20c.tif", "h#1.tif", "~x.tif", "[x]{y}.tif"),
    *("st*r.tif", "q'q.tif", "a?b.tif", "a?b/c.tif", "semi;colon,comma.tif", "at@dollar$.tif", "back\\slash.tif"),
    *("(x)!.tif", "a:b.tif", "100%.tif", 'quo"te.tif', "<x>.tif"),
]


@pytest.mark.parametrize("key", READABLE)
def test_keys_with_any_characters_are_listed_and_read_by_both_libraries(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_tiff(tmp_path / "x.tif", good_pixels(1)).read_bytes()
    with public_bucket("pub", {f"in/{key}": data}) as running:
        keys(monkeypatch, **running.environment)
        store = Store.at("s3://pub/in")
        assert list(store.fingerprints("")) == [key]
        assert store.find(key) == data
        assert list(store.fingerprints_in([key, "b", "c"])) == ([key] if "/" not in key else [])
        with rasterio.Env(**store.gdal_options()), rasterio.open(store.gdal_path(store.address_of(key))) as raster:
            np.testing.assert_array_equal(raster.read(1), good_pixels(1))


@pytest.mark.parametrize("key", ["a//b.tif", "/b.tif", "a/./b.tif", "a/../b.tif", "a\tb.tif", "a/b//"])
def test_a_key_that_is_not_a_path_is_named(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with public_bucket("pub", {f"in/{key}": b"x", "in/good.tif": b"x"}) as running:
        keys(monkeypatch, **running.environment)
        error = refusal("s3://pub/in")
    assert error.code is ErrorCode.KEY_UNFIT
    assert f"s3://pub/in/{key}" in error.detail


@pytest.mark.s3
@pytest.mark.parametrize("key", [key for key in READABLE if "\\" not in key])
def test_keys_with_any_characters_survive_a_real_server(key: str, s3_address: str) -> None:
    store = Store.at(s3_address)
    store.put(key, b"x")
    assert store.list() == [key]
    assert store.get(key) == b"x"
