"""The state of an ingester's workflow server, and what it does (airbusgeo/geocube-ingester, workflow and catalog).

`tests.ingester.routes` has its addresses, `tests.ingester.http_server` its HTTP.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

STATUSES = ("NEW", "PENDING", "DONE", "FAILED", "RETRY")
URGENT = ("RETRY", "PENDING", "NEW", "DONE", "FAILED")
COLOURS = {"NEW": "gray", "PENDING": "blue", "DONE": "green", "FAILED": "red", "RETRY": "orange"}
AOI_NAME = re.compile(r"^[a-zA-Z0-9\-:_]+$")
NEVER = "0001-01-01T00:00:00Z"
Row = dict[str, Any]
Reply = tuple[int, bytes | str]


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of this method whose path begins so.

    Attributes:
        how: "reset" (before it is done), "reset after" (it is done, and nobody is told), "cut" (half of the answer),
            "drip" (a byte at a time), "slow" (done and answered after `seconds`), or "status" (not done).
        seconds: how slow, or between bytes.
        status: HTTP status to answer with.
        body: text to answer with.
        then: faults that begin when this one has struck.
    """

    method: str
    path: str
    how: str
    times: int = 1
    seconds: float = 0.0
    status: int = 500
    body: str = ""
    then: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Standin:
    """The state of the server. Tests fill it, and look into it.

    Attributes:
        catalogue: {source id: (date, {tile's source id: (swath, number)})} of the scenes that an inventory finds.
        variables: names of variables of the Geocube, each with the instance "master".
        records: names of the records made at the Geocube, one entry each time.
        published: what was queued for the workers, such as "scene 3", in order.
        restless: rows of lists move between any two requests.
    """

    token: str = ""
    aois: list[str] = field(default_factory=list)
    scenes: dict[int, Row] = field(default_factory=dict)
    tiles: dict[int, Row] = field(default_factory=dict)
    catalogue: dict[str, tuple[str, dict[str, tuple[str, int]]]] = field(default_factory=dict)
    variables: set[str] = field(default_factory=lambda: {"CoherenceVV"})
    records: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    posts: int = 0
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    restless: bool = False
    lock: Any = field(default_factory=threading.RLock)
    turn: int = 0

    # What tests do to it

    def add_scene(
        self, aoi: str, source_id: str, date: str = "2021-01-07T05:42:40Z", status: str = "PENDING", **more: Any
    ) -> int:
        """A scene that is there, with its AOI."""
        if aoi not in self.aois:
            self.aois.append(aoi)
        number = len(self.scenes) + 1
        data = {
            "date": date,
            "graph_name": "",
            "graph_config": None,
            "record_id": f"record-{source_id}",
            "metadata": None,
        }
        data |= {"is_retriable": False, "storage_uri": ""} | more.pop("data", {})
        self.scenes[number] = {"id": number, "source_id": source_id, "aoi": aoi, "data": data, "status": status}
        self.scenes[number] |= {"message": "", "RetryCountDown": 0} | more
        return number

    def add_tile(
        self, scene: int, source_id: str, status: str = "NEW", swath: str = "IW1", nr: int = 1, **more: Any
    ) -> int:
        """A tile of a scene."""
        number = len(self.tiles) + 1
        data = {"swath_id": swath, "tile_nr": nr, "graph_name": "", "is_retriable": False}
        self.tiles[number] = {"id": number, "source_id": source_id, "scene": scene, "data": data, "status": status}
        self.tiles[number] |= {"message": "", "PreviousID": None, "ReferenceID": None, "RetryCountDown": 0} | more
        return number

    def work(self, outcome: Callable[[str, Row], tuple[str, str]] = lambda _kind, _row: ("DONE", "")) -> None:
        """Let the workers do all that is queued, and what follows from it."""
        with self.lock:
            while pending := [("scene", row) for row in self.scenes.values() if row["status"] == "PENDING"] or [
                ("tile", row) for row in self.tiles.values() if row["status"] == "PENDING"
            ]:
                for kind, row in pending:
                    status, message = outcome(kind, row)
                    row["message"] = message
                    self.set_status(kind, row, status)

    def count(self, method: str, path: str) -> int:
        """How many such requests came in."""
        return sum(one.method == method and one.path == path for one in self.asked)

    # What it does

    def set_status(self, kind: str, row: Row, status: str) -> None:
        """Move a scene or tile, and what follows from it."""
        row["status"] = status
        tiles = [tile for tile in self.tiles.values() if kind == "scene" and tile["scene"] == row["id"]]
        if status == "FAILED":
            for tile in [row] if kind == "tile" else tiles:
                tile["status"] = "FAILED"
                for after in self.tiles.values():
                    if after["PreviousID"] == tile["id"]:
                        after["PreviousID"] = tile["PreviousID"]
                tile["PreviousID"] = None
        if status == "PENDING":
            self.published.append(f"{kind} {row['id']}")
        if status in ("DONE", "FAILED"):
            for tile in self.tiles.values():
                before = self.tiles.get(tile["PreviousID"])
                ready = before is None or before["status"] == "DONE"
                if tile["status"] == "NEW" and ready and self.scenes[tile["scene"]]["status"] == "DONE":
                    self.set_status("tile", tile, "PENDING")

    def aoi_status(self, aoi: str) -> str:
        scenes = {row["status"] for row in self.of_aoi(aoi)}
        found = next((status for status in URGENT if status in scenes), "NEW")
        if found != "DONE":
            return found
        tiles = {row["status"] for row in self.tiles.values() if self.scenes[row["scene"]]["aoi"] == aoi}
        return next((status for status in URGENT if status in tiles), "DONE")

    def of_aoi(self, aoi: str) -> list[Row]:
        return [row for row in self.scenes.values() if row["aoi"] == aoi]

    def paged(self, rows: list[Row], query: dict[str, str]) -> list[Row]:
        """Rows as SQL gives them without ORDER BY."""
        if self.restless:
            self.turn += 1
            rows = rows[self.turn % max(len(rows), 1) :] + rows[: self.turn % max(len(rows), 1)]
        limit, page = integer(query.get("limit"), -1), integer(query.get("page"), 0)
        return rows[page * limit : (page + 1) * limit] if limit > 0 else rows

    def as_tile(self, row: Row, *, with_scene: bool = False) -> Row:
        scene = self.scenes[row["scene"]]
        empty = {"date": NEVER, "graph_name": "", "graph_config": None, "record_id": "", "metadata": None}
        shown = {
            "id": scene["id"],
            "source_id": "",
            "aoi": "",
            "data": empty | {"is_retriable": False, "storage_uri": ""},
        }
        if with_scene:
            shown = {key: scene[key] for key in ("id", "source_id", "aoi", "data")}
        return {**row, "scene": shown}

    def table(self, aoi: str) -> str:
        text = ""
        mine = {row["id"] for row in self.of_aoi(aoi)}
        tiles = [row for row in self.tiles.values() if row["scene"] in mine]
        for title, rows in (("Scenes", self.of_aoi(aoi)), ("Tiles", tiles)):
            counts = {status: sum(row["status"] == status for row in rows) for status in STATUSES}
            text += (
                f"{title}:\n  new:     {counts['NEW']}\n  pending: {counts['PENDING']}\n  done:    {counts['DONE']}\n"
            )
            text += f"  retry:   {counts['RETRY']}\n  failed:  {counts['FAILED']}\n  Total:   {sum(counts.values())}\n"
        roots = sum(row["PreviousID"] is None for row in tiles)
        return text + f"\nRoot tiles : {roots}\n  From: 2026-11-23\n  To:   0001-01-01\n"

    def dot(self, aoi: str) -> str:
        """The server's own graph: a name without quotes, and a thousand scenes at most."""
        lines = [f"digraph {aoi} {{"]
        for row in self.of_aoi(aoi)[:1000]:
            label = f'"{row["source_id"]}\\n(id={row["id"]})"'
            lines.append(f"s{row['id']} [label={label} shape=box color={COLOURS[row['status']]}];")
        return "\n".join([*lines, "}\n"])

    def post_area(self, headers: Any, body: bytes) -> Reply:
        if not str(headers.get("content-type", "")).startswith("multipart/form-data"):
            return 400, "request Content-Type isn't multipart/form-data"
        text = _fields(headers["content-type"], body).get("area")
        if text is None:
            return 400, "http: no such file"
        try:
            area = json.loads(text)
        except ValueError as error:
            return 400, f"loadArea: {error}\nJSON:\n{text.decode()}"
        if area["scene_type"]["constellation"].lower() != "sentinel1" or not self.catalogue:
            return 500, f"DoScenesInventory.no catalog is configured for '{area['scene_type']['constellation']}'"
        if not AOI_NAME.match(area["name"]):
            return 500, f"IngestArea.validateArea: wrong format for AOIID ('{area['name']}')"
        for layer in area.get("layers", {}).values():
            if layer["variable"] not in self.variables:
                what = f"Variable with name: {layer['variable']}"
                return 500, f"IngestArea.validateArea: rpc error: code = NotFound desc = {what}"
        scenes, tiles = self._ingest(area)
        return 200, f"Ingestion of {scenes} scenes and {tiles} tiles in progress (1.234567ms)\n"

    def _ingest(self, area: Row) -> tuple[int, int]:
        self.posts += 1
        name = area["name"]
        if name not in self.aois:
            self.aois.append(name)
        known = {row["source_id"] for row in self.of_aoi(name)}
        data = {"graph_name": area["scene_graph_name"], "graph_config": area.get("graph_config")}
        data |= {"instances_id": dict.fromkeys(area.get("layers", {}), "an-instance"), "storage_uri": ""}
        made = tiles = 0
        for source_id, (date, parts) in sorted(self.catalogue.items(), key=lambda item: item[1][0]):
            if source_id in known or not area["start_time"] <= date <= area["end_time"]:
                continue
            self.records.append(source_id)
            scene = self.add_scene(name, source_id, date, data=data)
            self.published.append(f"scene {scene}")
            made += 1
            for tile_id, (swath, nr) in parts.items():
                same = [row["id"] for row in self.tiles.values() if row["source_id"] == tile_id]
                self.add_tile(
                    scene,
                    tile_id,
                    swath=swath,
                    nr=nr,
                    PreviousID=same[-1] if same else None,
                    ReferenceID=same[0] if same else None,
                )
                tiles += 1
        return made, tiles

    def add_by_hand(self, aoi: str, body: bytes) -> Reply:
        try:
            scene = json.loads(body)
        except ValueError:
            return 400, b""
        if set(scene) - {"id", "source_id", "aoi", "data", "tiles", "retry_count"}:
            return 400, b""
        if scene["aoi"] != aoi:
            return 500, f"IngestScenes: scene[{scene['source_id']}].AOI and aoi are different"
        if not scene["tiles"] or len(scene["tiles"]) != len(scene["data"].get("tiles", {})):
            return 500, f"IngestScenes: scene[{scene['source_id']}] has no tiles"
        if aoi not in self.aois:
            return 500, 'IngestScenes.uow.CreateScene.exec: pq: insert or update on table "scene" violates foreign key'
        if any(row["source_id"] == scene["source_id"] for row in self.of_aoi(aoi)):
            return 200, '{"id":0}'
        number = self.add_scene(aoi, scene["source_id"], scene["data"]["date"])
        self.published.append(f"scene {number}")
        for tile in scene["tiles"]:
            self.add_tile(number, tile)
        return 200, f'{{"id":{number}}}'

    def retry_aoi(self, aoi: str, *, force: bool) -> Reply:
        scenes = [row for row in self.of_aoi(aoi) if force or row["status"] == "RETRY"]
        done = {row["id"] for row in scenes if row["status"] == "DONE"}
        mine = {row["id"] for row in self.of_aoi(aoi)}
        for row in scenes:
            row["message"] = ""
            self.set_status("scene", row, "PENDING")
        tiles = [
            row
            for row in self.tiles.values()
            if (row["scene"] in done if force else row["status"] == "RETRY" and row["scene"] in mine)
        ]
        restarted, errors = 0, []
        for row in tiles:
            before = self.tiles.get(row["PreviousID"])
            if before is not None and before["status"] != "DONE":
                errors.append(f"RetryTile: cannot retry tile when previous is {before['status']}")
                continue
            self.set_status("tile", row, "PENDING")
            restarted += 1
        if errors:
            return 500, "\n ".join(errors)
        if not scenes and not restarted:
            return 204, b""
        return 200, json.dumps({"Scenes": len(scenes), "Tiles": restarted}) + "\n"

    def move(self, kind: str, number: int, action: str, status: str) -> Reply:
        rows = self.scenes if kind == "scene" else self.tiles
        if action == "force":
            if status.upper() not in STATUSES:
                return 500, f"{status} does not belong to Status values"
            if number not in rows:
                return 403, b""
            self.set_status(kind, rows[number], status.upper())
            return 200, b""
        allowed = {"retry": ("RETRY",), "fail": ("RETRY", "PENDING")}[action]
        if number not in rows or rows[number]["status"] not in allowed:
            return 403, b""
        self.set_status(kind, rows[number], "PENDING" if action == "retry" else "FAILED")
        return 200, b""


def integer(text: str | None, otherwise: int) -> int:
    try:
        return int(text or "")
    except ValueError:
        return otherwise


def _fields(content_type: str, body: bytes) -> dict[str, bytes]:
    message = BytesParser(EmailMessage, policy=HTTP).parsebytes(
        b"content-type: " + content_type.encode() + b"\r\n\r\n" + body
    )
    return {
        str(part.get_param("name", header="content-disposition")): bytes(part.get_content().encode())
        if part.get_content_maintype() == "text"
        else bytes(part.get_content())
        for part in message.iter_parts()
    }
