"""An AOI is posted exactly once, even if the reply is lost."""

from __future__ import annotations

import json
import threading
import time

import pytest
import urllib3

from acdtask.errors import AcdError, ErrorCode
from acdtask.ingester.client import IngesterClient
from acdtask.ingester.model import Counts
from acdtask.ingester.post import post_aoi
from acdtask.ingester.transport import Patience, Place
from tests.ingester.area import area, passes
from tests.ingester.conftest import SHORT, TOKEN
from tests.ingester.standin import Fault, Standin

POST = ("POST", "/catalog/aoi")


@pytest.fixture(autouse=True)
def _catalogue(standin: Standin) -> None:
    standin.catalogue = passes(3)


def assert_posted_once(standin: Standin) -> None:
    assert standin.posts == 1
    assert sorted(standin.records) == sorted(standin.catalogue)
    assert standin.published == ["scene 1", "scene 2", "scene 3"]


def test_an_aoi_is_posted_as_a_form_and_the_answer_is_text(standin: Standin, client: IngesterClient) -> None:
    posted = post_aoi(client, area())
    assert (posted.posted, posted.scenes, posted.tiles) == (True, Counts(pending=3), Counts(new=6))
    assert posted.reply == "Ingestion of 3 scenes and 6 tiles in progress (1.234567ms)"
    assert_posted_once(standin)
    sent = next(request for request in standin.asked if (request.method, request.path) == POST)
    assert sent.headers["content-type"].startswith("multipart/form-data")


def test_an_aoi_that_is_there_is_not_posted(standin: Standin, client: IngesterClient) -> None:
    post_aoi(client, area())
    assert not post_aoi(client, area()).posted
    assert standin.count(*POST) == 1


def test_an_aoi_without_scenes_counts_as_not_there(standin: Standin, client: IngesterClient) -> None:
    client.create_aoi("koln")
    assert post_aoi(client, area()).posted
    assert_posted_once(standin)


@pytest.mark.parametrize("how", ["reset after", "cut"])
def test_a_lost_answer_is_looked_up(how: str, standin: Standin, client: IngesterClient) -> None:
    standin.faults = [Fault(*POST, how)]
    posted = post_aoi(client, area())
    assert (posted.posted, posted.reply, posted.scenes.total) == (True, "", 3)
    assert standin.count(*POST) == 1
    assert_posted_once(standin)


def test_an_answer_lost_while_the_server_restarts_is_looked_up(standin: Standin, client: IngesterClient) -> None:
    away = Fault("GET", "/aoi", "status", times=4, status=502)
    standin.faults = [Fault(*POST, "reset after", then=(away,))]
    assert post_aoi(client, area()).posted
    assert away.times == 0
    assert_posted_once(standin)


@pytest.mark.parametrize("fault", [Fault(*POST, "reset", times=2), Fault(*POST, "status", times=2, status=502)])
def test_a_post_that_did_not_come_is_repeated(fault: Fault, standin: Standin, client: IngesterClient) -> None:
    standin.faults = [fault]
    assert post_aoi(client, area()).posted
    assert standin.count(*POST) == 3
    assert_posted_once(standin)


def test_a_post_that_never_comes_is_told_as_transient(standin: Standin, client: IngesterClient) -> None:
    standin.faults = [Fault(*POST, "reset", times=99)]
    with pytest.raises(AcdError, match="posted 3 times, but did not appear") as caught:
        post_aoi(client, area())
    assert (caught.value.code, standin.posts) == (ErrorCode.INGESTER_UNREACHABLE, 0)


def test_an_inventory_that_ends_after_we_gave_up_is_found(standin: Standin, address: str) -> None:
    standin.faults = [Fault(*POST, "slow", seconds=0.6)]
    client = IngesterClient.at(Place(address, TOKEN), Patience(post=0.2, pause=0.01, settle=3))
    posted = post_aoi(client, area())
    assert (posted.posted, posted.scenes.total) == (True, 3)
    assert standin.count(*POST) == 1
    assert_posted_once(standin)


@pytest.mark.parametrize("fault", [Fault(*POST, "slow", seconds=1.2), Fault(*POST, "status", status=504)])
def test_an_inventory_that_may_still_go_on_is_never_started_again(fault: Fault, standin: Standin, address: str) -> None:
    standin.faults = [fault]
    client = IngesterClient.at(Place(address, TOKEN), Patience(post=0.2, pause=0.01, settle=0.2))
    with pytest.raises(AcdError, match="may still be searching its scenes") as caught:
        post_aoi(client, area())
    assert caught.value.code is ErrorCode.INGESTER_UNREACHABLE
    assert standin.count(*POST) == 1
    if fault.how == "slow":
        until = time.monotonic() + 10
        while not standin.posts and time.monotonic() < until:
            time.sleep(0.02)
        assert not post_aoi(client, area()).posted  # the same command, later
        assert_posted_once(standin)


def test_two_at_once_make_nothing_twice(standin: Standin, address: str) -> None:
    clients = [IngesterClient.at(Place(address, TOKEN), SHORT) for _ in range(4)]
    threads = [threading.Thread(target=post_aoi, args=(client, area())) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert standin.published == ["scene 1", "scene 2", "scene 3"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"graph_config": {"projection": "EPSG:32632", "resolution": "10"}}, "graph_config.resolution 20, not 10"),
        ({"graph_config": {}}, "graph_config.projection EPSG:32632, not empty"),
        ({"scene_graph_name": "Other"}, "scene_graph_name S1Preprocessing, not Other"),
        ({"layers": {"coh_VH": {"variable": "CoherenceVH", "instance": "master"}}}, "layers coh_VV, not coh_VH"),
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_an_aoi_that_is_there_with_other_settings_is_refused(
    changes: dict[str, object], told: str, again: bool, standin: Standin, client: IngesterClient
) -> None:
    post_aoi(client, area())
    with pytest.raises(AcdError, match=told) as caught:
        post_aoi(client, area(**changes), again=again)
    assert (caught.value.code, standin.count(*POST)) == (ErrorCode.INGESTER_REFUSED, 1)


def test_posting_again_adds_the_scenes_that_are_new(standin: Standin, client: IngesterClient) -> None:
    post_aoi(client, area())
    standin.catalogue = passes(5)
    posted = post_aoi(client, area(), again=True)
    assert (posted.posted, posted.scenes.total) == (True, 5)
    assert posted.reply.startswith("Ingestion of 2 scenes and 4 tiles")
    assert standin.published == [f"scene {number}" for number in range(1, 6)]


def test_posting_again_is_not_repeated_by_itself(standin: Standin, client: IngesterClient) -> None:
    post_aoi(client, area())
    standin.faults = [Fault(*POST, "reset")]
    with pytest.raises(AcdError, match="may still be searching its scenes"):
        post_aoi(client, area(), again=True)
    assert standin.count(*POST) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scene_type": {"constellation": "sentinel9"}}, "no catalog is configured for 'sentinel9'"),
        ({"layers": {"coh_VV": {"variable": "Nope", "instance": "master"}}}, "Variable with name: Nope"),
    ],
)
def test_a_payload_that_the_server_cannot_use_is_a_mistake_and_no_outage(
    changes: dict[str, object], told: str, client: IngesterClient
) -> None:
    with pytest.raises(AcdError, match=told) as caught:
        post_aoi(client, area(**changes))
    assert caught.value.code is ErrorCode.INGESTER_REFUSED


def test_a_failure_that_may_pass_is_transient(standin: Standin, client: IngesterClient) -> None:
    text = "DoScenesInventory.ScenesInventory.Copernicus.searchScenes.query: 503 Service Unavailable"
    standin.faults = [Fault(*POST, "status", status=500, body=text)]
    with pytest.raises(AcdError, match="503 Service Unavailable") as caught:
        post_aoi(client, area())
    assert (caught.value.code, standin.count(*POST)) == (ErrorCode.INGESTER_UNREACHABLE, 1)


def test_a_name_with_a_slash_is_refused_here(standin: Standin, client: IngesterClient) -> None:
    with pytest.raises(AcdError) as caught:
        post_aoi(client, area(name="nrw/koln"))
    assert (caught.value.code, standin.asked) == (ErrorCode.NAME_INVALID, [])


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        ({"fields": {"other": "x"}}, {}, "http: no such file"),
        ({"body": b"{}"}, {"content-type": "application/json"}, "request Content-Type isn't multipart/form-data"),
        ({"fields": {"area": "{"}}, {}, "loadArea: "),
    ],
)
def test_the_stand_in_refuses_a_form_as_the_real_one(
    body: dict[str, object], headers: dict[str, str], told: str, address: str
) -> None:
    sent = {"authorization": f"Bearer {TOKEN}", **headers}
    answer = urllib3.request("POST", f"{address}/catalog/aoi", headers=sent, **body)  # type: ignore[arg-type]  # a form or a body
    assert answer.status == 400
    assert answer.data.decode().startswith(told)


def test_the_payload_is_the_aois_own(client: IngesterClient) -> None:
    sent = json.loads(json.dumps(area().payload()))
    assert sent["graph_config"] == {"projection": "EPSG:32632", "resolution": "20"}
    assert sent["geometry"]["type"] == "Polygon"
    assert "page" not in sent
    assert post_aoi(client, area()).posted
