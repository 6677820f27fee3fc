"""Files on the web: requests, credentials, and the handling of replies."""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from acdtask import hosts, http
from acdtask.cube.stac.read import read_stac
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.source_files import Masks, read_header, read_masked_strips
from acdtask.raster.web_rasters import web_copy
from acdtask.storage import web, web_address, web_answers, web_request
from acdtask.storage.store import Store
from acdtask.storage.web import Web
from tests.jobs.rasters import good_pixels, write_tiff
from tests.storage.web_server import ReceivedRequest, Reply, Rule, WebServer, web_server

SIGNATURE = "X-Amz-Signature=5ecre7"
PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"
HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web_request, "LONGEST_WAIT", 0.01)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A GeoTIFF larger than several of the reader's blocks, with its directory at the end."""
    path = tmp_path_factory.mktemp("web") / "a.tif"
    write_tiff(path, good_pixels(1, size=512))
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(comment="x" * 500)
    return path.read_bytes()


@pytest.fixture
def server(data: bytes) -> Iterator[WebServer]:
    with web_server({"/b/a.tif": data}) as running:
        yield running


def address_in(server: WebServer) -> str:
    return f"{server.address}/b/a.tif"


def pixels_of(reader: Web, address: str) -> np.ndarray:
    return np.concatenate([strip for _, strip, _ in read_masked_strips(reader, address, 1, Masks())])


def refusal(address: str, reader: Web | None = None) -> AcdError:
    with pytest.raises(AcdError) as caught:
        (reader or Web()).fingerprint(address)
    return caught.value


def reply_for(path: str, reply: Reply) -> Rule:
    return lambda request: reply if request.path == path else None


def test_a_header_is_read_by_ranges_and_pixels_whole(server: WebServer, data: bytes) -> None:
    assert len(data) > 8 * web.BLOCK_BYTES
    header = read_header(Web(), address_in(server), beside=True)
    assert (header.grid.shape, header.dtype, header.nodata, header.beside) == ((512, 512), "float32", -1, {})
    requests = [request for request in server.requests if request.path == "/b/a.tif"]
    assert all(request.first is not None for request in requests)
    assert len(requests) * web.BLOCK_BYTES < len(data) / 2
    assert all(request.method == "GET" for request in server.requests)
    np.testing.assert_array_equal(pixels_of(Web(), address_in(server)), good_pixels(1, size=512))
    assert server.requests[-1].first is None


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_servers_without_ranges_or_marks_give_the_same(
    ranges: bool, tags: bool, server: WebServer, data: bytes, tmp_path: Path
) -> None:
    server.ranges, server.tags = ranges, tags
    (tmp_path / "a.tif").write_bytes(data)
    local = read_header(Store.at(str(tmp_path)), str(tmp_path / "a.tif"))
    assert read_header(Web(), address_in(server), beside=True) == local
    np.testing.assert_array_equal(pixels_of(Web(), address_in(server)), good_pixels(1, size=512))
    first = Web().fingerprint(address_in(server))
    assert first == Web().fingerprint(address_in(server))
    with web_copy(Web(), address_in(server), first) as raster:
        assert raster.shape == (512, 512)
    server.objects["/b/a.tif"] = data.replace(b"x" * 500, b"y" * 500)
    assert Web().fingerprint(address_in(server)) != first
    with pytest.raises(AcdError) as caught, web_copy(Web(), address_in(server), first):
        pass
    assert caught.value.code is ErrorCode.INPUT_CHANGED


def test_a_compressed_reply_is_decompressed(server: WebServer, data: bytes) -> None:
    def compressed(request: ReceivedRequest) -> Reply | None:
        if request.path != "/b/a.tif":
            return None
        return Reply(200, gzip.compress(data), {"Content-Encoding": "gzip", "ETag": '"7"'})

    server.rule = compressed
    assert read_header(Web(), address_in(server)).grid.shape == (512, 512)
    np.testing.assert_array_equal(pixels_of(Web(), address_in(server)), good_pixels(1, size=512))
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


def test_a_small_reply_that_decompresses_to_a_huge_one_is_stopped(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_answers, "MOST_BYTES", 4_000_000)
    body = gzip.compress(b"II*\0" + bytes(100_000_000))
    server.rule = reply_for("/b/a.tif", Reply(200, body, {"Content-Encoding": "gzip"}))
    with pytest.raises(AcdError) as caught, web_copy(Web(), address_in(server)):
        pass
    assert caught.value.code is ErrorCode.INPUT_TOO_LARGE
    with pytest.raises(AcdError) as caught:
        Web().find_small(address_in(server), 1000)
    assert caught.value.code is ErrorCode.FILE_UNFIT


def test_an_endless_file_is_stopped(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_answers, "MOST_BYTES", 100_000)
    with pytest.raises(AcdError) as caught:
        read_header(Web(), address_in(server))
    assert caught.value.code is ErrorCode.INPUT_TOO_LARGE
    server.ranges = False
    with pytest.raises(AcdError) as caught:
        read_header(Web(), address_in(server))
    assert caught.value.code is ErrorCode.INPUT_TOO_LARGE


REFUSED = [
    (Reply(401), ErrorCode.WEB_DENIED, "HTTP 401"),
    (Reply(403), ErrorCode.WEB_DENIED, "HTTP 403"),
    (Reply(400), ErrorCode.WEB_DENIED, "HTTP 400"),
    (Reply(503), ErrorCode.WEB_UNREACHABLE, "HTTP 503"),
    (Reply(429, headers={"Retry-After": "86400"}), ErrorCode.WEB_UNREACHABLE, "HTTP 429"),
    (Reply(200, PAGE, HTML), ErrorCode.WEB_PAGE, "web page"),
    (Reply(206, PAGE, {"Content-Range": f"bytes 0-{len(PAGE) - 1}/{len(PAGE)}"}), ErrorCode.WEB_PAGE, "web page"),
    (Reply(200, PAGE), ErrorCode.WEB_PAGE, "web page"),
    (Reply(416), ErrorCode.INPUT_UNREADABLE, "empty"),
    (Reply(302, headers={"Location": "/b/a.tif"}), ErrorCode.WEB_REDIRECTED, "redirects more than"),
    (Reply(302, headers={"Location": "ftp://x.org/a.tif"}), ErrorCode.WEB_ADDRESS, "ftp://x.org/a.tif"),
    (Reply(302, headers={"Location": "file:///etc/passwd"}), ErrorCode.WEB_ADDRESS, "no host"),
]


@pytest.mark.parametrize(("reply", "code", "text"), REFUSED)
def test_each_error_says_what_is_wrong_and_never_shows_the_signature(
    reply: Reply, code: ErrorCode, text: str, server: WebServer
) -> None:
    server.rule = reply_for("/b/a.tif", reply)
    plain = address_in(server)
    signed = Web({plain: f"{plain}?{SIGNATURE}"})
    for read in (
        signed.fingerprint,
        lambda address: read_header(signed, address),
        lambda address: pixels_of(signed, address),
    ):
        with pytest.raises(AcdError) as caught:
            read(plain)
        if caught.value.code is not ErrorCode.INPUT_CHANGED:
            assert (caught.value.code, text in caught.value.detail) == (code, True), str(caught.value)
        assert "5ecre7" not in str(caught.value)
    assert SIGNATURE in server.requests[0].query


def test_a_missing_file_has_no_fingerprint(server: WebServer) -> None:
    assert Web().fingerprint(f"{server.address}/b/none.tif") is None
    with pytest.raises(AcdError) as caught:
        read_header(Web(), f"{server.address}/b/none.tif")
    assert caught.value.code is ErrorCode.INPUT_MISSING


def test_a_refused_connection_and_an_unknown_host_are_transient() -> None:
    for address in ("http://127.0.0.1:9/a.tif", "https://no-such-host.invalid/a.tif?sig=5ecre7"):
        plain = web_address.without_query(address)
        error = refusal(plain, Web({plain: address}))
        assert error.code is ErrorCode.WEB_UNREACHABLE
        assert error.code.value.retryable
        assert "5ecre7" not in str(error)


def test_a_server_that_sends_nothing_is_given_up(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_request, "READ_SECONDS", 0.2)
    monkeypatch.setattr(web_request, "ATTEMPTS", 2)
    server.rule = reply_for("/b/a.tif", Reply(200, delay=3))
    assert refusal(address_in(server)).code is ErrorCode.WEB_UNREACHABLE


def test_a_server_that_sends_too_slowly_is_given_up(
    server: WebServer, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_answers, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(web_answers, "SLOWEST", 1e15)
    monkeypatch.setattr(web_request, "ATTEMPTS", 2)
    with pytest.raises(AcdError, match="too slowly") as caught, web_copy(Web(), address_in(server)):
        pass
    assert caught.value.code is ErrorCode.WEB_UNREACHABLE


def test_a_broken_transfer_is_retried(server: WebServer, data: bytes) -> None:
    def broken(request: ReceivedRequest) -> Reply | None:
        if request.path != "/b/a.tif" or request.number % 3 == 2:
            return None
        if request.number % 3 == 0:
            return Reply(500)
        whole = server.object_reply(data, request)
        return Reply(whole.status, whole.body[:1000], whole.headers, length=len(whole.body))

    server.rule = broken
    assert read_header(Web(), address_in(server)).grid.shape == (512, 512)
    np.testing.assert_array_equal(pixels_of(Web(), address_in(server)), good_pixels(1, size=512))


def test_a_file_that_changes_between_two_ranges_is_an_error(server: WebServer, data: bytes) -> None:
    def changing(request: ReceivedRequest) -> Reply | None:
        reply = server.object_reply(data, request)
        return Reply(reply.status, reply.body, reply.headers | {"ETag": f'"{request.first}"'})

    server.rule = changing
    with pytest.raises(AcdError) as caught:
        read_header(Web(), address_in(server))
    assert caught.value.code is ErrorCode.INPUT_CHANGED


def test_the_error_for_other_files_than_geotiffs_has_their_address(server: WebServer) -> None:
    for body in (b"\x89HDF\r\n\x1a\n" + bytes(5000), b"II*\0" + bytes(5000), b"{}"):
        server.objects["/b/a.tif"] = body
        for read in (lambda: read_header(Web(), address_in(server)), lambda: pixels_of(Web(), address_in(server))):
            with pytest.raises(AcdError) as caught:
                read()
            assert caught.value.code is ErrorCode.INPUT_UNREADABLE
            assert address_in(server) in caught.value.detail
            assert "/proc/" not in caught.value.detail
            assert "/web/" not in caught.value.detail


def test_a_token_is_sent_only_to_its_host_even_after_a_redirect(
    server: WebServer, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACD_WEB_TOKEN", "t0ken\n")
    monkeypatch.setenv("ACD_WEB_TOKEN_HOST", "example.org, 127.0.0.1")
    with web_server({"/b/a.tif": data}, "127.0.0.2") as other:
        server.rule = lambda _: Reply(303, headers={"Location": f"{other.address}/b/a.tif?{SIGNATURE}"})
        assert Web().fingerprint(address_in(server))
        assert other.requests[0].query == SIGNATURE
        assert "Authorization" not in other.requests[0].headers
        assert server.requests[0].headers["Authorization"] == "Bearer t0ken"
        assert Web().fingerprint(f"{other.address}/b/a.tif")
        assert "Authorization" not in other.requests[-1].headers


def test_a_netrc_login_with_cookies_as_earthdata_does_it(server: WebServer, data: bytes, tmp_path: Path) -> None:
    """The data host redirects to the login host, and that to the data host's login, which sets a session cookie."""
    (tmp_path / "netrc").write_text("default login d password d\nmachine 127.0.0.2 login me password pa55\n")
    basic = f"Basic {base64.b64encode(b'me:pa55').decode()}"

    with web_server({}, "127.0.0.2") as login:

        def of_login(request: ReceivedRequest) -> Reply:
            if request.headers.get("Authorization") != basic:
                return Reply(401)
            return Reply(302, headers={"Location": f"{server.address}/login?code=1"})

        def of_data(request: ReceivedRequest) -> Reply | None:
            if request.path == "/login":
                return Reply(302, headers={"Location": "/b/a.tif", "Set-Cookie": "session=s1; Path=/"})
            if "session=s1" in request.headers.get("Cookie", ""):
                return None
            return Reply(302, headers={"Location": f"{login.address}/oauth/authorize?client=x"})

        login.rule, server.rule = of_login, of_data
        np.testing.assert_array_equal(pixels_of(Web(), address_in(server)), good_pixels(1, size=512))
        assert all("Authorization" not in request.headers for request in server.requests)
        assert all("Cookie" not in request.headers for request in login.requests)
        (tmp_path / "netrc").write_text("")
        error = refusal(address_in(server))
    assert error.code is ErrorCode.WEB_DENIED
    assert "from 127.0.0.2" in error.detail
    assert "netrc" in error.fix


UNFIT = [
    ({"ACD_WEB_TOKEN": "t0ken"}, "ACD_WEB_TOKEN_HOST names no host"),
    ({"ACD_WEB_TOKEN": "t0 ken", "ACD_WEB_TOKEN_HOST": "x.org"}, "ACD_WEB_TOKEN contains whitespace"),
    ({"ACD_WEB_TOKEN": "t0ken", "ACD_WEB_TOKEN_HOST": "https://x.org"}, "not a host name"),
    ({"ACD_WEB_TOKEN": "t0ken", "ACD_WEB_TOKEN_HOST": ".org"}, "not a host name"),
    ({"NETRC": "/no/such/file"}, "/no/such/file cannot be read"),
]


@pytest.mark.parametrize(("environment", "text"), UNFIT)
def test_invalid_credentials_are_refused_before_anything_is_sent(
    environment: dict[str, str], text: str, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    error = refusal(address_in(server))
    assert error.code is ErrorCode.WEB_CREDENTIALS
    assert text in error.detail
    assert "t0ken" not in str(error)
    assert server.requests == []


def test_the_error_for_a_damaged_netrc_file_shows_no_password(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me pa55word\n")
    error = refusal(address_in(server))
    assert error.code is ErrorCode.WEB_CREDENTIALS
    assert "pa55" not in str(error)


def test_no_credentials_are_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACD_WEB_TOKEN", "t0ken")
    monkeypatch.setenv("ACD_WEB_TOKEN_HOST", ".example.invalid")
    error = refusal("http://data.example.invalid/a.tif")
    assert error.code is ErrorCode.WEB_CREDENTIALS
    assert "without TLS" in error.detail
    assert refusal("http://example.invalid/a.tif").code is ErrorCode.WEB_UNREACHABLE


@pytest.fixture
def half_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as the public internet, all other addresses as a private network."""
    for module in (hosts, http):
        monkeypatch.setattr(module, "is_public", lambda ip: ip == "127.0.0.1")


@pytest.mark.usefixtures("half_public")
def test_a_public_server_cannot_redirect_into_a_private_network(server: WebServer, data: bytes) -> None:
    with web_server({"/b/a.tif": data}, "127.0.0.2") as inside:
        assert Web().fingerprint(f"{inside.address}/b/a.tif"), "the user may name a private address"
        inside.requests.clear()
        server.rule = reply_for("/b/a.tif", Reply(302, headers={"Location": f"{inside.address}/b/a.tif"}))
        assert refusal(address_in(server)).code is ErrorCode.WEB_REDIRECTED
        named = Web(named_by=f"{server.address}/items.json")
        assert refusal(f"{inside.address}/b/a.tif", named).code is ErrorCode.WEB_REDIRECTED
        assert inside.requests == []
        assert Web(named_by=f"{inside.address}/items.json").fingerprint(f"{inside.address}/b/a.tif")


@pytest.mark.usefixtures("half_public")
def test_a_host_name_whose_address_changes_cannot_lead_into_a_private_network(
    server: WebServer, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server({"/b/a.tif": data}, "127.0.0.2") as inside:
        monkeypatch.setattr(http, "leads_inside", lambda address: False)
        server.rule = reply_for("/b/a.tif", Reply(302, headers={"Location": f"{inside.address}/b/a.tif"}))
        assert refusal(address_in(server)).code is ErrorCode.WEB_REDIRECTED
        assert inside.requests == []


@pytest.mark.parametrize(
    "address",
    [
        "https://u:5ecre7@x.org/a.tif",
        "https:///a.tif",
        "https://x.org:0/a.tif",
        "http://[::1/a.tif",
        "http://x.org/a b.tif",
    ],
)
def test_an_invalid_address_is_refused_and_no_password_is_shown(address: str) -> None:
    error = refusal(address)
    assert error.code is ErrorCode.WEB_ADDRESS
    assert "5ecre7" not in str(error)


def test_the_mask_and_metadata_files_are_read_and_other_replies_are_ignored(
    server: WebServer, data: bytes, tmp_path: Path
) -> None:
    mask = write_tiff(tmp_path / "m.tif", np.full((512, 512), 255, np.uint8), nodata=None).read_bytes()
    pam = b'<PAMDataset><PAMRasterBand band="1"><NoDataValue>0.5</NoDataValue></PAMRasterBand></PAMDataset>'
    server.objects |= {"/b/a.tif.msk": mask, "/b/a.tif.aux.xml": pam}
    header = read_header(Web(), address_in(server), beside=True)
    assert header.mask_file
    assert list(header.details[0].nodata) == [-1, 0.5]
    for reply in (Reply(200, PAGE, HTML), Reply(200, PAGE), Reply(403), Reply(401), Reply(416), Reply(200, b"")):
        server.rule = lambda request, reply=reply: reply if request.path != "/b/a.tif" else None
        assert read_header(Web(), address_in(server), beside=True).beside == {}
    server.rule = lambda request: Reply(503) if request.path != "/b/a.tif" else None
    with pytest.raises(AcdError) as caught:
        read_header(Web(), address_in(server), beside=True)
    assert caught.value.code is ErrorCode.WEB_UNREACHABLE
    signed = Web({address_in(server): f"{address_in(server)}?{SIGNATURE}"})
    server.requests.clear()
    assert read_header(signed, address_in(server), beside=True).beside == {}
    assert set(server.paths()) == {"/b/a.tif"}


def test_no_copy_is_left_in_the_folder_for_temporary_files(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with web_copy(Web(), address_in(server)):
        assert list((tmp_path / "scratch").iterdir()) == []
    server.ranges = False
    read_header(Web(), address_in(server))
    assert list((tmp_path / "scratch").iterdir()) == []


ITEM = {"type": "Feature", "id": "a", "geometry": None, "properties": {}, "assets": {"coh": {"href": "./a.tif"}}}


def test_a_catalogue_on_the_web_is_read_from_its_own_server_only(server: WebServer) -> None:
    catalogue = {"type": "Catalog", "links": [{"rel": "item", "href": "items/a.json"}]}
    server.objects |= {
        "/c/catalog.json": json.dumps(catalogue).encode(),
        "/c/items/a.json": json.dumps(ITEM).encode(),
    }
    (item,) = read_stac(f"{server.address}/c/catalog.json")
    assert item["assets"]["coh"]["href"] == f"{server.address}/c/items/a.tif"
    with web_server({"/a.json": json.dumps(ITEM).encode()}) as other:
        catalogue["links"] = [{"rel": "item", "href": f"{other.address}/a.json"}]
        server.objects["/c/catalog.json"] = json.dumps(catalogue).encode()
        with pytest.raises(AcdError, match="another server") as caught:
            read_stac(f"{server.address}/c/catalog.json")
        assert caught.value.code is ErrorCode.STAC_INVALID
        assert other.requests == []


@pytest.mark.parametrize("href", ["/etc/passwd.tif", "file:///etc/passwd.tif", "C:\\x.tif", "//x.org/a.tif"])
def test_a_document_on_the_web_cannot_refer_to_a_local_file(href: str, server: WebServer) -> None:
    item = ITEM | {"assets": {"coh": {"href": href}}}
    server.objects["/i.json"] = json.dumps(item).encode()
    with pytest.raises(AcdError) as caught:
        read_stac(f"{server.address}/i.json")
    assert caught.value.code is ErrorCode.STAC_INVALID


def test_a_store_never_opens_an_address_of_the_web(server: WebServer, tmp_path: Path) -> None:
    """Files that a cube's index lists are opened with a `Store`."""
    for store in (Store.at(str(tmp_path)), Store.at(str(tmp_path)).confined()):
        with pytest.raises(AcdError):
            read_header(store, address_in(server))
        with pytest.raises(AcdError):
            next(read_masked_strips(store, address_in(server), 1, Masks()))
    assert server.requests == []
