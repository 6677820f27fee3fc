"""A STAC API as a source: a small server that follows the specification, and others that do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from shapely.geometry import box, mapping, shape

from acdtask.cube.stac import api as stac_api
from acdtask.cube.stac.api import ApiAddress, read_stac_api
from acdtask.errors import AcdError, ErrorCode
from tests.jobs.rasters import good_pixels, write_tiff
from tests.storage.public_bucket import public_bucket

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
]
PAGE = 2


def item(number: int, href: str, west: float = 6.8) -> dict[str, Any]:
    area = box(west, 51.0, west + 0.03, 51.03)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"pair-{number}",
        "collection": "coherence",
        "geometry": mapping(area),
        "bbox": list(area.bounds),
        "properties": {
            "datetime": f"2020-01-{16 + number:02}T05:26:40Z",
            "start_datetime": f"2020-01-{4 + number:02}T05:26:40Z",
            "end_datetime": f"2020-01-{16 + number:02}T05:26:40Z",
        },
        "links": [],
        "assets": {"coh": {"href": href, "type": "image/tiff"}},
    }


@dataclass
class Api:
    """A STAC API with one collection; `answer` may change or replace its replies."""

    items: list[dict[str, Any]]
    address: str = ""
    takes_post: bool = True
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: Callable[[str, dict[str, Any]], tuple[int, Any, Mapping[str, str]]] | None = None

    def document(self, path: str, query: dict[str, Any]) -> Any:
        """The document at a path according to the specification."""
        base = {"stac_version": "1.0.0", "description": "-"}
        collection = {
            **base,
            "type": "Collection",
            "id": "coherence",
            "license": "other",
            "extent": {"spatial": {"bbox": [[6, 50, 8, 52]]}, "temporal": {"interval": [[None, None]]}},
            "links": [],
        }
        search: dict[str, str] = {"rel": "search", "type": "application/geo+json", "href": f"{self.address}/v1/search"}
        searches = [search, {**search, "method": "POST"}] if self.takes_post else [search]
        data = {"rel": "data", "type": "application/json", "href": f"{self.address}/v1/collections"}
        documents: dict[str, Any] = {
            "/v1": {**base, "type": "Catalog", "id": "api", "conformsTo": CONFORMS, "links": [*searches, data]},
            "/v1/collections": {"collections": [collection], "links": []},
            "/v1/collections/coherence": collection,
        }
        return self.page(query) if path == "/v1/search" else documents.get(path)

    def page(self, query: dict[str, Any]) -> dict[str, Any]:
        """A page of a search."""
        chosen = [
            feature
            for feature in self.items
            if feature["collection"] in query.get("collections", [feature["collection"]])
        ]
        if "intersects" in query:
            area = shape(query["intersects"])
            chosen = [feature for feature in chosen if shape(feature["geometry"]).intersects(area)]
        if "bbox" in query:
            chosen = [feature for feature in chosen if shape(feature["geometry"]).intersects(box(*query["bbox"]))]
        if "datetime" in query:
            first, _, last = query["datetime"].partition("/")
            chosen = [feature for feature in chosen if first <= feature["properties"]["datetime"] <= last]
        first_row = int(query.get("token", 0))
        more = first_row + PAGE < len(chosen)
        following: dict[str, Any] = {"rel": "next", "href": f"{self.address}/v1/search"}
        if self.takes_post:
            following |= {"method": "POST", "body": {**query, "token": first_row + PAGE}}
        else:
            plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in query.items()}
            following["href"] += f"?{urlencode(plain | {'token': first_row + PAGE})}"
        links = [following] if more else []
        return {"type": "FeatureCollection", "features": chosen[first_row : first_row + PAGE], "links": links}


def decoded(key: str, text: str) -> Any:
    """A parameter of a GET as in the body of a POST."""
    if key == "collections":
        return text.split(",") if not text.startswith("[") else json.loads(text)
    if key == "bbox":
        return [float(number) for number in text.strip("[]").split(",")]
    return json.loads(text) if key in ("intersects", "token") else text


@contextmanager
def serving(api: Api) -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.rstrip("/")
            query = {key: decoded(key, values[-1]) for key, values in parse_qs(parts.query).items()}
            query |= json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            api.asked.append((path, query))
            status, body, headers = (api.answer or plain)(path, query)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    def plain(path: str, query: dict[str, Any]) -> tuple[int, Any, Mapping[str, str]]:
        document = api.document(path, query)
        return (200, document, {}) if document is not None else (404, {"code": "NotFound"}, {})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(params=["GET", "POST"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    items = [item(number, f"s3://pub/coh/{number}.tif") for number in (2, 0, 4, 1, 3)]
    with serving(Api(items, takes_post=request.param == "POST")) as running:
        yield running


def refusal(address: str) -> AcdError:
    with pytest.raises(AcdError) as caught:
        read_stac_api(address)
    return caught.value


@pytest.mark.parametrize("path", ["/v1/collections/coherence", "/v1/collections/coherence/items/"])
def test_a_collection_is_read_page_by_page_and_sorted(path: str, api: Api) -> None:
    items = read_stac_api(api.address + path)
    assert [feature["id"] for feature in items] == [f"pair-{number}" for number in range(5)]
    assert items[0]["assets"]["coh"]["href"] == "s3://pub/coh/0.tif"
    assert sum(path == "/v1/search" for path, _ in api.asked) == 3


def test_a_search_has_its_own_area_and_times(api: Api) -> None:
    api.items.append(item(5, "s3://pub/coh/5.tif", west=7.5))
    ask = f"{api.address}/v1/search?collections=coherence"
    assert [feature["id"] for feature in read_stac_api(f"{ask}&bbox=7.4,50,7.6,52")] == ["pair-5"]
    times = "2020-01-17T00:00:00Z/2020-01-18T23:59:59Z"
    assert [feature["id"] for feature in read_stac_api(f"{ask}&datetime={times}")] == ["pair-1", "pair-2"]


def test_an_aoi_limits_the_search(api: Api) -> None:
    api.items.append(item(5, "s3://pub/coh/5.tif", west=7.5))
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 12, 31, tzinfo=UTC)
    found = read_stac_api(f"{api.address}/v1/collections/coherence", mapping(box(7.4, 50, 7.6, 52)), start, end)
    assert [feature["id"] for feature in found] == ["pair-5"]
    asked = next(query for path, query in api.asked if path == "/v1/search")
    assert asked["datetime"] == "2020-01-01T00:00:00Z/2020-12-31T00:00:00Z"


def test_the_error_for_a_missing_collection_lists_those_of_the_api(api: Api) -> None:
    for path in ("/v1", "/v1/search"):
        error = refusal(api.address + path)
        assert error.code is ErrorCode.STAC_API_FAILED
        assert "those of the API are coherence" in error.detail
        assert f"{api.address}/v1/collections/" in error.fix


def test_too_many_items_are_refused_before_all_are_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_api, "MOST_ITEMS", 2)
    error = refusal(f"{api.address}/v1/collections/coherence")
    assert error.code is ErrorCode.SOURCE_TOO_LARGE
    assert "--aoi" in error.fix
    assert sum(path == "/v1/search" for path, _ in api.asked) == 2


@pytest.mark.parametrize("leads", ["search", "next", "redirect"])
def test_no_other_server_is_requested_whatever_the_replies_link_to(leads: str, api: Api) -> None:
    with serving(Api(api.items)) as other:

        def answer(path: str, query: dict[str, Any]) -> tuple[int, Any, Mapping[str, str]]:
            if leads == "redirect" and path == "/v1/search":
                return 307, b"", {"Location": f"{other.address}/v1/search"}
            text = json.dumps(api.document(path, query))
            if (leads, path) in (("search", "/v1"), ("next", "/v1/search")):
                text = text.replace(f"{api.address}/v1/search", f"{other.address}/v1/search")
            return 200, text.encode(), {}

        api.answer = answer
        error = refusal(f"{api.address}/v1/collections/coherence")
        assert other.asked == []
    assert error.code is ErrorCode.STAC_API_FAILED
    assert other.address in error.detail


def test_a_redirection_on_the_same_server_is_followed(api: Api) -> None:
    def answer(path: str, query: dict[str, Any]) -> tuple[int, Any, Mapping[str, str]]:
        if path == "/v1" and len(api.asked) == 1:
            return 308, b"", {"Location": f"{api.address}/v1/"}
        return 200, api.document(path, query), {}

    api.answer = answer
    assert len(read_stac_api(f"{api.address}/v1/collections/coherence")) == 5


BROKEN: list[tuple[int, Any, ErrorCode]] = [
    (404, {"code": "NotFound"}, ErrorCode.STAC_API_FAILED),
    (401, {"code": "Unauthorized"}, ErrorCode.STAC_API_FAILED),
    (200, b"<html>hello</html>", ErrorCode.STAC_API_FAILED),
    (200, [], ErrorCode.STAC_API_FAILED),
    (503, b"busy", ErrorCode.STAC_API_UNREACHABLE),
]


@pytest.mark.parametrize(("status", "body", "code"), BROKEN)
@pytest.mark.parametrize("where", ["/v1", "/v1/search"])
def test_a_server_with_an_invalid_reply_is_named(
    status: int, body: Any, code: ErrorCode, where: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(path: str, query: dict[str, Any]) -> tuple[int, Any, Mapping[str, str]]:
        return (status, body, {}) if path == where else (200, api.document(path, query), {})

    api.answer = answer
    error = refusal(f"{api.address}/v1/collections/coherence")
    assert error.code is code
    assert api.address in error.detail


def test_a_refused_connection_is_transient() -> None:
    error = refusal("http://127.0.0.1:9/v1/collections/coherence")
    assert error.code is ErrorCode.STAC_API_UNREACHABLE
    assert error.code.value.retryable


@pytest.mark.parametrize("href", ["/etc/passwd.tif", "file:///etc/passwd.tif", "C:\\x.tif", "\\\\host\\x.tif"])
def test_an_item_on_the_web_must_not_refer_to_local_files(href: str) -> None:
    with serving(Api([item(0, href)])) as running:
        error = refusal(f"{running.address}/v1/collections/coherence")
    assert error.code is ErrorCode.STAC_INVALID
    assert "pair-0" in error.detail


@pytest.mark.parametrize("href", ["./x.tif", "../x.tif", "x.tif"])
def test_a_relative_asset_needs_a_self_link(href: str) -> None:
    feature = item(0, href)
    with serving(Api([feature])) as running:
        error = refusal(f"{running.address}/v1/collections/coherence")
        assert error.code is ErrorCode.STAC_INVALID
        assert "pair-0" in error.detail
        feature["links"] = [{"rel": "self", "href": "https://example.org/c/items/pair-0"}]
        (read,) = read_stac_api(f"{running.address}/v1/collections/coherence")
    folder = "https://example.org/c" if href.startswith("../") else "https://example.org/c/items"
    assert read["assets"]["coh"]["href"] == f"{folder}/x.tif"


@pytest.mark.parametrize("address", ["https://", "https:///v1", "http://[::1", "https://h:x/v1", "https://u:pw@h/v1"])
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(AcdError) as caught:
        ApiAddress.of(address)
    assert caught.value.code is ErrorCode.STAC_API_FAILED


def test_an_unsupported_parameter_is_refused() -> None:
    with pytest.raises(AcdError, match="filter"):
        ApiAddress.of("https://h/search?collections=a&filter=b")


def test_without_pystac_client_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystac_client.stac_api_io", None)
    error = refusal("https://example.org/v1/collections/coherence")
    assert error.code is ErrorCode.EXTRA_MISSING
    assert "acdtask[stac]" in error.fix


def test_an_api_is_ingested_from_the_command_line(tmp_path: Path) -> None:
    objects = {
        f"coh/{number}.tif": write_tiff(tmp_path / "x.tif", good_pixels(number)).read_bytes() for number in range(5)
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (
        public_bucket("pub", objects) as bucket,
        serving(Api([item(number, f"s3://pub/coh/{number}.tif") for number in range(5)])) as running,
    ):
        command = ["ingest", "local", "--workers", "1", "--cube", f"{tmp_path}/cube"]
        done = subprocess.run(
            [sys.executable, "-m", "acdtask", *command, "--source", f"{running.address}/v1/collections/coherence"],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**environment, **bucket.environment, "AWS_NO_SIGN_REQUEST": "YES"},
        )
    assert done.returncode == 0, done.stderr
    assert "done: 5 files" in done.stdout
    assert len(list((tmp_path / "cube/data").rglob("*.tif"))) == 5
