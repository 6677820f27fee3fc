"""The client against every observed behaviour of an ingester."""

from __future__ import annotations

import time

import pytest

from acdtask.errors import AcdError, ErrorCode
from acdtask.ingester import client as client_module
from acdtask.ingester.client import IngesterClient, Restarted
from acdtask.ingester.model import Counts, Kind, NewScene, Status
from acdtask.ingester.retry import retry_failed
from acdtask.ingester.transport import Patience, Place
from tests.ingester.conftest import SHORT, TOKEN
from tests.ingester.standin import Fault, Standin

UNREACHABLE, DENIED, REFUSED = (
    ErrorCode.INGESTER_UNREACHABLE,
    ErrorCode.INGESTER_DENIED,
    ErrorCode.INGESTER_REFUSED,
)


def scene_by_hand(source_id: str, aoi: str = "koln") -> NewScene:
    data = {"date": "2021-01-07T05:42:40Z", "tiles": {"a": {"swath_id": "IW1", "tile_nr": 1}}}
    return NewScene(source_id=source_id, aoi=aoi, data=data, tiles={"a": {}})


def test_json_that_is_called_text_is_read(standin: Standin, client: IngesterClient) -> None:
    standin.add_scene("koln", "S1A", status="DONE", data={"graph_config": {"resolution": "20"}})
    standin.add_scene("bonn", "S1B", status="RETRY")
    assert [(aoi.id, aoi.status) for aoi in client.aois()] == [("bonn", Status.RETRY), ("koln", Status.DONE)]
    (scene,) = client.scenes("koln")
    assert (scene.source_id, scene.status, scene.data.graph_config) == ("S1A", Status.DONE, {"resolution": "20"})
    assert client.scenes("bonn")[0].data.graph_config == {}  # null


def test_the_table_of_an_aoi_is_text_and_is_read(standin: Standin, client: IngesterClient) -> None:
    for number, status in enumerate(["NEW", "PENDING", "DONE", "DONE", "FAILED", "RETRY"]):
        scene = standin.add_scene("koln", f"S{number}", status=status)
        standin.add_tile(scene, "t", status="RETRY")
    scenes, tiles = client.counts("koln")
    assert scenes == Counts(new=1, pending=1, done=2, failed=1, retry=1)
    assert tiles == Counts(retry=6)


def test_an_unknown_aoi_has_zeros_and_only_the_list_says_that_it_is_not_there(
    standin: Standin, client: IngesterClient
) -> None:
    standin.add_scene("koln", "S1A")
    assert client.counts("bonn") == (Counts(), Counts())
    assert client.find_aoi("bonn") is None
    assert client.find_aoi("kol") is None
    for ask in (client.aoi, client.scenes, client.tiles, client.retry_aoi, client.force_aoi):
        with pytest.raises(AcdError, match="the ingester has no AOI bonn; it has koln") as caught:
            ask("bonn")
        assert caught.value.code is REFUSED


def test_an_aoi_without_scenes_is_there(client: IngesterClient) -> None:
    assert client.create_aoi("koln")
    assert not client.create_aoi("koln")
    assert client.scenes("koln") == []
    assert client.tiles("koln") == []


@pytest.mark.parametrize("name", ["a/b", "Köln", "a b", "", "a?b", "k*", "a.b"])
def test_a_name_that_the_ingester_would_misread_is_refused_before_it_is_sent(
    name: str, standin: Standin, client: IngesterClient
) -> None:
    with pytest.raises(AcdError) as caught:
        client.scenes(name)
    assert caught.value.code is ErrorCode.NAME_INVALID
    assert standin.asked == []


@pytest.mark.parametrize("given", ["", "wrong"])
def test_a_wrong_token_is_told_with_the_servers_reason(given: str, address: str, standin: Standin) -> None:
    client = IngesterClient.at(Place(address, given), SHORT)
    with pytest.raises(AcdError, match="invalid token" if given else "token not found") as caught:
        client.aois()
    assert caught.value.code is DENIED
    with pytest.raises(AcdError) as caught:  # though this call may be forbidden for another reason
        client.retry(Kind.SCENE, 1)
    assert caught.value.code is DENIED
    assert standin.count("GET", "/aoi/") == 1


def test_a_token_refused_without_a_reason_is_found_out_by_a_call_that_needs_no_state(
    standin: Standin, client: IngesterClient
) -> None:
    standin.add_scene("koln", "S1A", status="RETRY")
    standin.faults = [Fault("PUT", "/scene", "status", status=403), Fault("GET", "/aoi/", "status", status=403)]
    with pytest.raises(AcdError) as caught:
        client.retry(Kind.SCENE, 1)
    assert caught.value.code is DENIED


@pytest.mark.parametrize("status", ["DONE", "PENDING", "FAILED", "NEW"])
def test_a_state_that_does_not_allow_a_retry_is_no_wrong_token(
    status: str, standin: Standin, client: IngesterClient
) -> None:
    number = standin.add_scene("koln", "S1A", status=status)
    with pytest.raises(AcdError, match=f"scene {number} \\(S1A\\) is {status}, which does not allow retry") as caught:
        client.retry(Kind.SCENE, number)
    assert caught.value.code is REFUSED


def test_a_scene_that_is_not_there_is_told_although_the_server_says_forbidden(client: IngesterClient) -> None:
    for ask in (lambda: client.scene(7), lambda: client.retry(Kind.SCENE, 7)):
        with pytest.raises(AcdError, match="the ingester has no scene 7") as caught:
            ask()
        assert caught.value.code is REFUSED
    with pytest.raises(AcdError, match="the ingester has no tile 9"):
        client.fail(Kind.TILE, 9)
    assert client.tiles_of_scene(7) == []


def test_scenes_and_tiles_are_retried_failed_and_forced(standin: Standin, client: IngesterClient) -> None:
    scene = standin.add_scene("koln", "S1A", status="DONE")
    first = standin.add_tile(scene, "b1", status="RETRY")
    second = standin.add_tile(scene, "b1", PreviousID=first, ReferenceID=first)
    client.retry(Kind.TILE, first)
    assert (client.tile(first).status, standin.published) == (Status.PENDING, ["tile 1"])
    client.fail(Kind.TILE, first)
    assert client.tile(first).status is Status.FAILED
    after = client.tile(second)
    assert (after.status, after.previous, after.reference) == (Status.PENDING, None, first)
    client.force(Kind.TILE, first, Status.DONE)
    assert client.tile(first).status is Status.DONE


def test_an_existing_scene_has_its_own_id_and_not_zero(standin: Standin, client: IngesterClient) -> None:
    client.create_aoi("koln")
    number = client.add_scene(scene_by_hand("S1A"))
    assert client.add_scene(scene_by_hand("S1A")) == number
    assert number != client.add_scene(scene_by_hand("S1B"))
    assert standin.published == ["scene 1", "scene 2"]


def test_a_scene_whose_answer_was_lost_is_added_once(standin: Standin, client: IngesterClient) -> None:
    client.create_aoi("koln")
    standin.faults = [Fault("POST", "/aoi/koln/scene", "reset after")]
    assert client.add_scene(scene_by_hand("S1A")) == 1
    assert (len(standin.scenes), standin.published) == (1, ["scene 1"])


def test_a_scene_that_the_server_cannot_take_is_refused(client: IngesterClient) -> None:
    client.create_aoi("koln")
    with pytest.raises(AcdError, match="HTTP 500: IngestScenes: scene\\[S1A\\] has no tiles") as caught:
        client.add_scene(scene_by_hand("S1A").model_copy(update={"tiles": {}}))
    assert caught.value.code is UNREACHABLE


def many_scenes(standin: Standin, count: int) -> None:
    for number in range(count):
        scene = standin.add_scene("koln", f"S{number:04d}", status="DONE" if number % 2 else "PENDING")
        standin.add_tile(scene, "b", status="NEW" if number % 3 else "DONE")


@pytest.mark.parametrize("count", [499, 500, 1000, 1203])
def test_lists_are_read_to_the_end(count: int, standin: Standin, client: IngesterClient) -> None:
    many_scenes(standin, count)
    assert standin.dot("koln").count("shape=box") == min(count, 1000)  # the server's own graph stops
    assert [scene.source_id for scene in client.scenes("koln")] == sorted(f"S{number:04d}" for number in range(count))
    assert len(client.scenes("koln", Status.DONE)) == count // 2
    assert [tile.id for tile in client.tiles("koln")] == list(range(1, count + 1))
    assert {tile.scene.id for tile in client.tiles("koln", Status.DONE)} == set(range(1, count + 1, 3))


@pytest.mark.parametrize("status", [None, Status.DONE])
def test_rows_that_move_between_pages_are_not_lost(
    status: Status | None, standin: Standin, client: IngesterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE", 10)
    many_scenes(standin, 64)
    standin.restless = True
    scenes, tiles = client.scenes("koln", status), client.tiles("koln", status)
    assert len(scenes) == len({scene.id for scene in scenes}) == (32 if status else 64)
    assert len(tiles) == len({tile.id for tile in tiles}) == (22 if status else 64)


def test_a_retry_restarts_only_what_waits_for_it(standin: Standin, client: IngesterClient) -> None:
    done = standin.add_scene("koln", "S1", status="DONE")
    standin.add_tile(done, "b", status="RETRY")
    standin.add_tile(done, "c", status="FAILED")
    standin.add_scene("koln", "S2", status="RETRY")
    standin.add_scene("koln", "S3", status="FAILED")
    standin.add_scene("bonn", "S4", status="RETRY")
    assert client.retry_aoi("koln") == Restarted(1, 1)
    assert sorted(standin.published) == ["scene 2", "tile 1"]
    assert client.retry_aoi("koln") == Restarted(0, 0)  # HTTP 204


def test_force_says_how_many_done_scenes_it_would_restart_and_does_it_when_told_to(
    standin: Standin, client: IngesterClient
) -> None:
    for number, status in enumerate(["DONE", "DONE", "PENDING", "RETRY"]):
        standin.add_tile(standin.add_scene("koln", f"S{number}", status=status), "b", status="NEW")
    with pytest.raises(AcdError, match="2 of 4 scenes of koln are DONE") as caught:
        client.force_aoi("koln")
    assert (caught.value.code, standin.published) == (REFUSED, [])
    assert client.force_aoi("koln", restart_done=True) == Restarted(4, 2)
    assert {"scene 1", "scene 2", "scene 3", "scene 4"} < set(standin.published)


def test_force_without_done_scenes_needs_no_more_words(standin: Standin, client: IngesterClient) -> None:
    standin.add_scene("koln", "S1", status="PENDING")
    assert client.force_aoi("koln") == Restarted(1, 0)


def test_a_force_that_the_server_did_in_part_says_so(standin: Standin, client: IngesterClient) -> None:
    scene = standin.add_scene("koln", "S1", status="DONE")
    first = standin.add_tile(scene, "b", status="DONE")
    standin.add_tile(scene, "b", status="DONE", PreviousID=first)
    with pytest.raises(AcdError, match="not everything could be restarted: RetryTile: cannot retry") as caught:
        client.force_aoi("koln", restart_done=True)
    assert caught.value.code is REFUSED


@pytest.mark.parametrize("how", ["reset", "reset after"])
def test_a_retry_is_never_sent_twice_by_itself(how: str, standin: Standin, client: IngesterClient) -> None:
    standin.add_scene("koln", "S1", status="RETRY")
    standin.faults = [Fault("PUT", "/aoi/koln/retry", how)]
    with pytest.raises(AcdError, match="so it is unknown what was restarted") as caught:
        client.retry_aoi("koln")
    assert (caught.value.code, standin.count("PUT", "/aoi/koln/retry")) == (UNREACHABLE, 1)


def test_a_retry_of_one_scene_whose_answer_was_lost_is_looked_up(standin: Standin, client: IngesterClient) -> None:
    number = standin.add_scene("koln", "S1", status="RETRY")
    standin.faults = [Fault("PUT", "/scene", "reset after")]
    client.retry(Kind.SCENE, number)
    assert standin.published == ["scene 1"]
    standin.scenes[number]["status"] = "RETRY"
    standin.faults = [Fault("PUT", "/scene", "reset")]
    with pytest.raises(AcdError) as caught:
        client.retry(Kind.SCENE, number)
    assert (caught.value.code, standin.published) == (UNREACHABLE, ["scene 1"])


def test_what_failed_for_good_can_be_started_again(standin: Standin, client: IngesterClient) -> None:
    lost = standin.add_scene("koln", "S1", status="FAILED")
    standin.add_tile(lost, "b", status="FAILED")
    standin.add_tile(standin.add_scene("koln", "S2", status="DONE"), "b", status="FAILED")
    assert retry_failed(client, "koln") == Restarted(1, 2)
    assert sorted(standin.published) == ["scene 1", "tile 2"]
    standin.work()
    assert {row["status"] for row in [*standin.scenes.values(), *standin.tiles.values()]} == {"DONE"}
    assert retry_failed(client, "koln") == Restarted(0, 0)


@pytest.mark.parametrize("how", ["reset", "reset after", "cut"])
def test_a_question_is_asked_again_after_a_broken_answer(how: str, standin: Standin, client: IngesterClient) -> None:
    many_scenes(standin, 40)
    standin.faults = [Fault("GET", "/aoi", how, times=2)]
    assert len(client.scenes("koln")) == 40
    standin.faults = [Fault("GET", "/aoi", how, times=3)]
    with pytest.raises(AcdError) as caught:
        client.scenes("koln")
    assert (caught.value.code, caught.value.code.value.retryable) == (UNREACHABLE, True)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_question_is_asked_again_when_a_proxy_is_in_trouble(
    status: int, standin: Standin, client: IngesterClient
) -> None:
    standin.add_scene("koln", "S1")
    standin.faults = [Fault("GET", "/aoi", "status", times=2, status=status)]
    assert len(client.aois()) == 1


def test_a_failure_with_raw_text_is_told_in_one_line(standin: Standin, client: IngesterClient) -> None:
    text = 'scenes.QueryContext: pq: relation "scene"\n does not exist\x1b[31m'
    standin.faults = [Fault("GET", "/aoi", "status", status=500, body=text)]
    with pytest.raises(AcdError) as caught:
        client.aois()
    assert caught.value.code is UNREACHABLE
    assert 'HTTP 500: scenes.QueryContext: pq: relation "scene" does not exist [31m' in caught.value.detail


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, "<html>Please log in</html>", "the reply should be a list of AOIs"),
        (200, '{"ID": 3}', "the reply should be a list of AOIs"),
        (200, "", "is empty"),
        (302, "", "a redirection, which is not followed"),
        (404, "404 page not found\n", "HTTP 404: 404 page not found"),
        (400, "", "rejected with HTTP 400"),
    ],
)
def test_what_is_no_ingester_is_refused(
    status: int, body: str, told: str, standin: Standin, client: IngesterClient
) -> None:
    standin.faults = [Fault("GET", "/aoi", "status", status=status, body=body)]
    with pytest.raises(AcdError, match=told) as caught:
        client.aois()
    assert caught.value.code is REFUSED


def test_null_is_an_empty_list(standin: Standin, client: IngesterClient) -> None:
    standin.faults = [Fault("GET", "/aoi", "status", status=200, body="null\n")]
    assert client.aois() == []


@pytest.mark.parametrize("fault", [Fault("GET", "/aoi", "slow", 9, 3), Fault("GET", "/aoi", "drip", 9, 0.15)])
def test_a_call_ends_at_its_deadline(fault: Fault, address: str, standin: Standin) -> None:
    many_scenes(standin, 3)
    standin.faults = [fault]
    client = IngesterClient.at(Place(address, TOKEN), Patience(answer=0.4, attempts=1))
    started = time.monotonic()
    with pytest.raises(AcdError, match="in time") as caught:
        client.aois()
    assert caught.value.code is UNREACHABLE
    assert time.monotonic() - started < 2


def test_nobody_there_is_told_after_a_few_attempts() -> None:
    client = IngesterClient.at(Place("http://127.0.0.1:1", TOKEN), SHORT)
    with pytest.raises(AcdError, match=r"127\.0\.0\.1 takes no connection") as caught:
        client.aois()
    assert caught.value.code is UNREACHABLE


def test_tls_with_a_server_that_has_none_is_told(address: str) -> None:
    client = IngesterClient.at(Place(address.replace("http://", "https://"), TOKEN), SHORT)
    with pytest.raises(AcdError, match="do not agree on TLS") as caught:
        client.aois()
    assert caught.value.code is REFUSED
