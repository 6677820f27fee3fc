"""The ingester's calls, typed; what its answers leave open is found out by asking again.

It answers 200 with zeros for an AOI that it does not know, 403 for a wrong token and for a state that does not allow
something, the id 0 for a scene that it has, and lists without an order, so that rows move between pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from acdtask.errors import AcdError, ErrorCode
from acdtask.ingester.model import (
    AoiState,
    Counts,
    Kind,
    NewScene,
    Scene,
    Status,
    Tile,
    counts_of_table,
    parse_json,
)
from acdtask.ingester.transport import Answer, LostAnswerError, Patience, Place, Transport

if TYPE_CHECKING:
    from acdtask.cube.aoi import Aoi

__all__ = ["IngesterClient", "Restarted"]

PAGE = 500
"""Scenes or tiles in one answer."""

NAME = re.compile(r"^[a-zA-Z0-9\-:_]+$")
"""The ingester's rule for AOIs, which is stricter than that for the Geocube's names."""

NAMED_AT_MOST = 10
OK, NO_CONTENT, BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, FAILED = 200, 204, 400, 403, 404, 409, 500
SETTING_FAULTS = ("validateArea", "no catalog is configured", "CheckRecordTags", "constellation not supported")
"""Parts of texts with HTTP 500 that no waiting mends (airbusgeo/geocube-ingester, catalog/catalog.go, scenes.go)."""

RowT = TypeVar("RowT", Scene, Tile)


@dataclass(frozen=True)
class Restarted:
    """How many scenes and tiles were set to PENDING again."""

    scenes: int
    tiles: int


class IngesterClient:
    """Calls of one ingester. Every method raises AcdError: INGESTER_UNREACHABLE, INGESTER_DENIED, INGESTER_REFUSED."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @classmethod
    def at(cls, place: Place, patience: Patience | None = None) -> IngesterClient:
        """A client of the ingester there; nothing is sent yet."""
        return cls(Transport(place, patience))

    def aois(self) -> list[AoiState]:
        """Every AOI, by name."""
        answer = self._get("/aoi/")
        found: list[AoiState] = parse_json(list[AoiState], answer.body, "a list of AOIs")
        return sorted(found, key=lambda one: one.id)

    def find_aoi(self, name: str) -> AoiState | None:
        """The AOI, or None. Only the list knows: the AOI's own address answers zeros. NAME_INVALID."""
        require_name(name)
        return next((one for one in self.aois() if one.id == name), None)

    def aoi(self, name: str) -> AoiState:
        """The AOI. INGESTER_REFUSED if there is none, naming those that there are."""
        require_name(name)
        every = self.aois()
        found = next((one for one in every if one.id == name), None)
        if found is None:
            names = ", ".join(one.id for one in every[:NAMED_AT_MOST])
            more = ", ..." if len(every) > NAMED_AT_MOST else ""
            detail = f"the ingester has no AOI {name}; it has {names + more or 'none at all'}"
            raise AcdError(ErrorCode.INGESTER_REFUSED, detail, "Post it with 'acdtask ingester post --aoi FILE'.")
        return found

    def counts(self, name: str) -> tuple[Counts, Counts]:
        """How many scenes and tiles of the AOI have which status; zeros for an AOI that is not there. NAME_INVALID."""
        return counts_of_table(self._get(f"/aoi/{require_name(name)}").text)

    def scenes(self, name: str, status: Status | None = None) -> list[Scene]:
        """The AOI's scenes (of a status), by date and name: all of them. NAME_INVALID."""
        path = f"/aoi/{require_name(name)}/scenes" + (f"/{status.value}" if status else "")
        found = self._pages(path, Scene)
        if len(found) != _wanted(self.counts(name)[0], status):  # rows moved between pages: one answer has all of them
            found = _by_id(self._list(path, Scene))
        if not found:
            self.aoi(name)
        return sorted(found.values(), key=lambda one: (one.data.date, one.source_id, one.id))

    def tiles(self, name: str, status: Status | None = None) -> list[Tile]:
        """The AOI's tiles (of a status), by id: all of them. NAME_INVALID."""
        path = f"/aoi/{require_name(name)}/tiles"
        found: dict[int, Tile] = {}
        for one in [status] if status else Status:
            found |= self._pages(f"{path}/{one.value}", Tile)
        if len(found) != _wanted(self.counts(name)[1], status):  # a tile changed its status, but never its scene
            every = (tile for scene in self.scenes(name) for tile in self.tiles_of_scene(scene.id))
            found = _by_id(tile for tile in every if status in (None, tile.status))
        if not found:
            self.aoi(name)
        return [found[number] for number in sorted(found)]

    def scene(self, number: int) -> Scene:
        """The scene of that id. INGESTER_REFUSED if there is none."""
        found: Scene = parse_json(Scene, self._get(f"/scene/{number}", f"scene {number}").body, "a scene")
        return found

    def tile(self, number: int) -> Tile:
        """The tile of that id. INGESTER_REFUSED if there is none."""
        found: Tile = parse_json(Tile, self._get(f"/tile/{number}", f"tile {number}").body, "a tile")
        return found

    def tiles_of_scene(self, number: int) -> list[Tile]:
        """The tiles of a scene, by id; none for a scene that is not there."""
        return sorted(self._list(f"/scene/{number}/tiles", Tile), key=lambda one: one.id)

    def create_aoi(self, name: str) -> bool:
        """Make an AOI without scenes. Returns whether it was new. NAME_INVALID."""
        answer = self._ask("POST", f"/aoi/{require_name(name)}", (NO_CONTENT, CONFLICT))
        return answer.status == NO_CONTENT

    def add_scene(self, scene: NewScene) -> int:
        """Add a scene to its AOI and start it; one that is there is left alone. Returns its id. NAME_INVALID."""
        path = f"/aoi/{require_name(scene.aoi)}/scene"
        answer = self._ask("POST", path, (OK, CONFLICT), json=scene.model_dump_json().encode())
        if answer.status == OK:
            made: dict[str, int] = parse_json(dict[str, int], answer.body, '{"id": n}')
            if number := made.get("id", 0):
                return number
        known = [one.id for one in self.scenes(scene.aoi) if one.source_id == scene.source_id]
        if not known:
            detail = f"the ingester says that scene {scene.source_id} is in AOI {scene.aoi}, and does not list it"
            raise AcdError(ErrorCode.INGESTER_REFUSED, detail, "Look into the ingester's log.")
        return known[0]

    def post_area(self, aoi: Aoi) -> str:
        """Post an AOI, once, and return what the ingester says when it has taken the inventory and made the records.

        Use `acdtask.ingester.post.post_aoi`, which looks whether the AOI is there.
        """
        payload = json.dumps(aoi.payload()).encode()
        files = {"area": ("aoi.json", payload, "application/json")}
        answer = self._ask("POST", "/catalog/aoi", files=files, repeatable=False, deadline=self.transport.patience.post)
        return self.transport.scrubbed(answer.text)

    def retry(self, kind: Kind, number: int) -> None:
        """Have a scene or tile tried again that is in RETRY. INGESTER_REFUSED in any other state."""
        self._move(kind, number, "retry", Status.PENDING)

    def fail(self, kind: Kind, number: int) -> None:
        """Give a scene or tile up that is in RETRY or PENDING. INGESTER_REFUSED in any other state."""
        self._move(kind, number, "fail", Status.FAILED)

    def force(self, kind: Kind, number: int, status: Status) -> None:
        """Set the status of a scene or tile, whatever it is, and start what follows from it."""
        self._act(kind, number, f"force/{status.value}")

    def retry_aoi(self, name: str) -> Restarted:
        """Have everything of an AOI tried again that is in RETRY, and nothing else. NAME_INVALID."""
        self.aoi(name)
        return self._restart(f"/aoi/{name}/retry")

    def force_aoi(self, name: str, *, restart_done: bool = False) -> Restarted:
        """Start every scene of an AOI again, whatever its status. NAME_INVALID.

        Args:
            name: of the AOI.
            restart_done: whether scenes that are DONE may be done again; without it INGESTER_REFUSED says how many.
        """
        self.aoi(name)
        scenes, tiles = self.counts(name)
        if scenes.done and not restart_done:
            raise AcdError(
                ErrorCode.INGESTER_REFUSED,
                f"{scenes.done} of {scenes.total} scenes of {name} are DONE ({tiles.done} tiles) and would restart",
                "Leave --force out to restart only what is in RETRY, or give --restart-done too.",
            )
        return self._restart(f"/aoi/{name}/retry/force")

    def _restart(self, path: str) -> Restarted:
        try:
            answer = self._ask("PUT", path, (OK, NO_CONTENT, FAILED), repeatable=False)
        except LostAnswerError as error:
            fix = "Look with 'acdtask ingester status' before you run the same command again."
            raise AcdError(error.code, f"{error.detail}, so what was restarted is not known", fix) from error
        if answer.status == NO_CONTENT:
            return Restarted(0, 0)
        if answer.status == FAILED:  # it goes on after the first failure, and counts nothing
            why = self.transport.scrubbed(answer.text)
            fix = "Look with 'acdtask ingester status': the rest was restarted."
            raise AcdError(ErrorCode.INGESTER_REFUSED, f"not everything could be restarted: {why}", fix)
        counted: dict[str, int] = parse_json(dict[str, int], answer.body, "the number of scenes and tiles")
        return Restarted(counted.get("Scenes", 0), counted.get("Tiles", 0))

    def _move(self, kind: Kind, number: int, action: str, to: Status) -> None:
        try:
            self._act(kind, number, action)
        except LostAnswerError:
            if self._state(kind, number).status is not to:
                raise

    def _act(self, kind: Kind, number: int, action: str) -> None:
        what = f"{kind.value} {number}"
        answer = self._ask("PUT", f"/{kind.value}/{number}/{action}", (OK, FORBIDDEN), what, repeatable=False)
        if answer.status == FORBIDDEN:
            raise self._forbidden(answer, lambda: self._not_now(kind, number, action))

    def _not_now(self, kind: Kind, number: int, action: str) -> AcdError:
        state = self._state(kind, number)  # says so itself if there is none
        name = f"{kind.value} {number} ({state.source_id})"
        detail = f"{name} is {state.status.value}, which does not allow {action.replace('/', ' ')}"
        return AcdError(ErrorCode.INGESTER_REFUSED, detail, "Look with 'acdtask ingester scenes' first.")

    def _state(self, kind: Kind, number: int) -> Scene | Tile:
        return self.scene(number) if kind is Kind.SCENE else self.tile(number)

    def _pages(self, path: str, kind: type[RowT]) -> dict[int, RowT]:
        found: dict[int, RowT] = {}
        page = 0
        while True:
            rows = self._list(path, kind, {"page": page, "limit": PAGE})
            found |= _by_id(rows)
            if len(rows) < PAGE:
                return found
            page += 1

    def _list(self, path: str, kind: type[RowT], query: dict[str, int] | None = None) -> list[RowT]:
        rows: list[RowT] = parse_json(list[kind], self._get(path, query=query).body, f"a list of {kind.__name__}s")  # type: ignore[valid-type]  # a type made here
        return rows

    def _get(self, path: str, what: str = "", query: dict[str, int] | None = None) -> Answer:
        return self._ask("GET", path, what=what, query=query)

    def _ask(self, method: str, path: str, expected: tuple[int, ...] = (OK,), what: str = "", **options: Any) -> Answer:
        """A call whose answer is one of those expected; an error says what any other means."""
        answer = self.transport.request(method, quote(path), **options)
        if answer.status in expected:
            return answer
        said = self.transport.scrubbed(answer.text)
        if answer.status == FORBIDDEN:
            raise self._forbidden(answer, lambda: AcdError(ErrorCode.INGESTER_DENIED, "the ingester answers HTTP 403"))
        if answer.status == NOT_FOUND and what:
            raise AcdError(
                ErrorCode.INGESTER_REFUSED, f"the ingester has no {what}", "Look with 'acdtask ingester scenes'."
            )
        if answer.status >= FAILED and not any(fault in said for fault in SETTING_FAULTS):
            detail = f"{self.transport.place.host} failed with HTTP {answer.status}: {said or 'it does not say why'}"
            raise AcdError(ErrorCode.INGESTER_UNREACHABLE, detail, "Look into the ingester's log, and try again.")
        detail = f"{method} {path} is refused with HTTP {answer.status}" + (f": {said}" if said else "")
        raise AcdError(ErrorCode.INGESTER_REFUSED, detail)

    def _forbidden(self, answer: Answer, otherwise: Callable[[], AcdError]) -> AcdError:
        """What HTTP 403 means: a wrong token, which a JSON text says, or which the list of AOIs is refused for too."""
        reason = _text_in(answer)
        if not reason and self.transport.request("GET", "/aoi/").status != FORBIDDEN:
            return otherwise()
        return AcdError(
            ErrorCode.INGESTER_DENIED,
            f"{self.transport.place.host} does not take "
            + ("this token" if self.transport.place.token else "calls without a token")
            + (f": {self.transport.scrubbed(reason)}" if reason else ""),
        )


def require_name(name: str) -> str:
    """The name of an AOI, as the ingester takes it. NAME_INVALID."""
    if not NAME.match(name):
        raise AcdError(
            ErrorCode.NAME_INVALID,
            f"{name!r} is not a valid AOI name for the ingester",
            "Use letters, digits, '-', ':' and '_', without '/'.",
        )
    return name


def _by_id(rows: Iterable[RowT]) -> dict[int, RowT]:
    return {row.id: row for row in rows}


def _wanted(counts: Counts, status: Status | None) -> int:
    return int(getattr(counts, status.value.lower())) if status else counts.total


def _text_in(answer: Answer) -> str:
    """The JSON text that a body is, or nothing."""
    try:
        value = json.loads(answer.body)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
