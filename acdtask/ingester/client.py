"""Typed calls of the ingester; ambiguous replies are resolved by further calls.

The ingester replies 200 with zeros for an unknown AOI, 403 both for a wrong token and for a status that does not allow
an action, id 0 for an existing scene, and unordered lists, so that rows move between pages.
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
"""Scenes or tiles per page."""

NAME = re.compile(r"^[a-zA-Z0-9\-:_]+$")
"""The ingester's rule for AOI names, stricter than the Geocube's rule for names."""

MAX_NAMED = 10
OK, NO_CONTENT, BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, FAILED = 200, 204, 400, 403, 404, 409, 500
SETTING_ERRORS = ("validateArea", "no catalog is configured", "CheckRecordTags", "constellation not supported")
"""Parts of HTTP 500 messages that a retry cannot fix (airbusgeo/geocube-ingester, catalog/catalog.go, scenes.go)."""

RowT = TypeVar("RowT", Scene, Tile)


@dataclass(frozen=True)
class Restarted:
    """Numbers of scenes and tiles that were set to PENDING."""

    scenes: int
    tiles: int


class IngesterClient:
    """Client of an ingester. Every method may raise INGESTER_UNREACHABLE, INGESTER_DENIED or INGESTER_REFUSED."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @classmethod
    def at(cls, place: Place, patience: Patience | None = None) -> IngesterClient:
        """Make a client of the ingester at `place`, without sending anything."""
        return cls(Transport(place, patience))

    def aois(self) -> list[AoiState]:
        """List all AOIs by name."""
        answer = self._get("/aoi/")
        states: list[AoiState] = parse_json(list[AoiState], answer.body, "a list of AOIs")
        return sorted(states, key=lambda state: state.id)

    def find_aoi(self, name: str) -> AoiState | None:
        """Find an AOI in the list of all, since the AOI's own URL replies zeros if it is missing. NAME_INVALID."""
        require_name(name)
        return next((state for state in self.aois() if state.id == name), None)

    def aoi(self, name: str) -> AoiState:
        """Get an AOI. INGESTER_REFUSED if it does not exist, naming those that do."""
        require_name(name)
        states = self.aois()
        aoi = next((state for state in states if state.id == name), None)
        if aoi is None:
            names = ", ".join(state.id for state in states[:MAX_NAMED])
            more = ", ..." if len(states) > MAX_NAMED else ""
            detail = f"the ingester has no AOI {name}; it has {names + more or 'none'}"
            raise AcdError(ErrorCode.INGESTER_REFUSED, detail, "Post it with 'acdtask ingester post --aoi FILE'.")
        return aoi

    def counts(self, name: str) -> tuple[Counts, Counts]:
        """Count the scenes and tiles of an AOI by status; zeros if the AOI does not exist. NAME_INVALID."""
        return counts_of_table(self._get(f"/aoi/{require_name(name)}").text)

    def scenes(self, name: str, status: Status | None = None) -> list[Scene]:
        """List all scenes of an AOI, or those with a status, by date and name. NAME_INVALID."""
        path = f"/aoi/{require_name(name)}/scenes" + (f"/{status.value}" if status else "")
        by_id = self._pages(path, Scene)
        if len(by_id) != _expected(self.counts(name)[0], status):  # rows moved between pages: get all in one reply
            by_id = _by_id(self._list(path, Scene))
        if not by_id:
            self.aoi(name)
        return sorted(by_id.values(), key=lambda scene: (scene.data.date, scene.source_id, scene.id))

    def tiles(self, name: str, status: Status | None = None) -> list[Tile]:
        """List all tiles of an AOI, or those with a status, by id. NAME_INVALID."""
        path = f"/aoi/{require_name(name)}/tiles"
        by_id: dict[int, Tile] = {}
        for each in [status] if status else Status:
            by_id |= self._pages(f"{path}/{each.value}", Tile)
        # A tile changed its status meanwhile: list the tiles by scene, which never changes.
        if len(by_id) != _expected(self.counts(name)[1], status):
            tiles = (tile for scene in self.scenes(name) for tile in self.tiles_of_scene(scene.id))
            by_id = _by_id(tile for tile in tiles if status in (None, tile.status))
        if not by_id:
            self.aoi(name)
        return [by_id[number] for number in sorted(by_id)]

    def scene(self, number: int) -> Scene:
        """Get a scene by id. INGESTER_REFUSED if it does not exist."""
        scene: Scene = parse_json(Scene, self._get(f"/scene/{number}", f"scene {number}").body, "a scene")
        return scene

    def tile(self, number: int) -> Tile:
        """Get a tile by id. INGESTER_REFUSED if it does not exist."""
        tile: Tile = parse_json(Tile, self._get(f"/tile/{number}", f"tile {number}").body, "a tile")
        return tile

    def tiles_of_scene(self, number: int) -> list[Tile]:
        """List the tiles of a scene by id; empty if the scene does not exist."""
        return sorted(self._list(f"/scene/{number}/tiles", Tile), key=lambda tile: tile.id)

    def create_aoi(self, name: str) -> bool:
        """Make an AOI without scenes. Returns whether it was new. NAME_INVALID."""
        answer = self._ask("POST", f"/aoi/{require_name(name)}", (NO_CONTENT, CONFLICT))
        return answer.status == NO_CONTENT

    def add_scene(self, scene: NewScene) -> int:
        """Add a scene to its AOI and start it, unless it exists; return its id. NAME_INVALID."""
        path = f"/aoi/{require_name(scene.aoi)}/scene"
        answer = self._ask("POST", path, (OK, CONFLICT), json=scene.model_dump_json().encode())
        if answer.status == OK:
            made: dict[str, int] = parse_json(dict[str, int], answer.body, '{"id": n}')
            if number := made.get("id", 0):
                return number
        known = [other.id for other in self.scenes(scene.aoi) if other.source_id == scene.source_id]
        if not known:
            detail = f"the ingester reports that scene {scene.source_id} is in AOI {scene.aoi}, but does not list it"
            raise AcdError(ErrorCode.INGESTER_REFUSED, detail, "Check the ingester's log.")
        return known[0]

    def post_area(self, aoi: Aoi) -> str:
        """Post an AOI without retries, and return the reply that follows once scenes and records are created.

        Use `acdtask.ingester.post.post_aoi`, which checks whether the AOI exists.
        """
        payload = json.dumps(aoi.payload()).encode()
        files = {"area": ("aoi.json", payload, "application/json")}
        answer = self._ask("POST", "/catalog/aoi", files=files, repeatable=False, deadline=self.transport.patience.post)
        return self.transport.scrubbed(answer.text)

    def retry(self, kind: Kind, number: int) -> None:
        """Retry a scene or tile in RETRY. INGESTER_REFUSED in any other status."""
        self._move(kind, number, "retry", Status.PENDING)

    def fail(self, kind: Kind, number: int) -> None:
        """Fail a scene or tile in RETRY or PENDING. INGESTER_REFUSED in any other status."""
        self._move(kind, number, "fail", Status.FAILED)

    def force(self, kind: Kind, number: int, status: Status) -> None:
        """Set the status of a scene or tile regardless of its current one, and start the work that follows."""
        self._act(kind, number, f"force/{status.value}")

    def retry_aoi(self, name: str) -> Restarted:
        """Retry all scenes and tiles of an AOI in RETRY, and no others. NAME_INVALID."""
        self.aoi(name)
        return self._restart(f"/aoi/{name}/retry")

    def force_aoi(self, name: str, *, restart_done: bool = False) -> Restarted:
        """Restart every scene of an AOI; INGESTER_REFUSED for those DONE, unless `restart_done`. NAME_INVALID."""
        self.aoi(name)
        scenes, tiles = self.counts(name)
        if scenes.done and not restart_done:
            raise AcdError(
                ErrorCode.INGESTER_REFUSED,
                f"{scenes.done} of {scenes.total} scenes of {name} are DONE ({tiles.done} tiles) and would restart",
                "Omit --force to restart only those in RETRY, or add --restart-done.",
            )
        return self._restart(f"/aoi/{name}/retry/force")

    def _restart(self, path: str) -> Restarted:
        try:
            answer = self._ask("PUT", path, (OK, NO_CONTENT, FAILED), repeatable=False)
        except LostAnswerError as error:
            fix = "Check with 'acdtask ingester status' before you run the same command again."
            raise AcdError(error.code, f"{error.detail}, so it is unknown what was restarted", fix) from error
        if answer.status == NO_CONTENT:
            return Restarted(0, 0)
        if answer.status == FAILED:  # the server continues after the first failure, and reports no numbers
            reason = self.transport.scrubbed(answer.text)
            fix = "Check with 'acdtask ingester status': the rest was restarted."
            raise AcdError(ErrorCode.INGESTER_REFUSED, f"not everything could be restarted: {reason}", fix)
        counts: dict[str, int] = parse_json(dict[str, int], answer.body, "the number of scenes and tiles")
        return Restarted(counts.get("Scenes", 0), counts.get("Tiles", 0))

    def _move(self, kind: Kind, number: int, action: str, to: Status) -> None:
        try:
            self._act(kind, number, action)
        except LostAnswerError:
            if self._state(kind, number).status is not to:
                raise

    def _act(self, kind: Kind, number: int, action: str) -> None:
        name = f"{kind.value} {number}"
        answer = self._ask("PUT", f"/{kind.value}/{number}/{action}", (OK, FORBIDDEN), name, repeatable=False)
        if answer.status == FORBIDDEN:
            raise self._forbidden(answer, lambda: self._not_allowed(kind, number, action))

    def _not_allowed(self, kind: Kind, number: int, action: str) -> AcdError:
        state = self._state(kind, number)  # raises an error if there is none
        name = f"{kind.value} {number} ({state.source_id})"
        detail = f"{name} is {state.status.value}, which does not allow {action.replace('/', ' ')}"
        return AcdError(ErrorCode.INGESTER_REFUSED, detail, "Check with 'acdtask ingester scenes' first.")

    def _state(self, kind: Kind, number: int) -> Scene | Tile:
        return self.scene(number) if kind is Kind.SCENE else self.tile(number)

    def _pages(self, path: str, kind: type[RowT]) -> dict[int, RowT]:
        by_id: dict[int, RowT] = {}
        page = 0
        while True:
            rows = self._list(path, kind, {"page": page, "limit": PAGE})
            by_id |= _by_id(rows)
            if len(rows) < PAGE:
                return by_id
            page += 1

    def _list(self, path: str, kind: type[RowT], query: dict[str, int] | None = None) -> list[RowT]:
        rows: list[RowT] = parse_json(list[kind], self._get(path, query=query).body, f"a list of {kind.__name__}s")  # type: ignore[valid-type]  # a type made at run time
        return rows

    def _get(self, path: str, what: str = "", query: dict[str, int] | None = None) -> Answer:
        return self._ask("GET", path, what=what, query=query)

    def _ask(self, method: str, path: str, expected: tuple[int, ...] = (OK,), what: str = "", **options: Any) -> Answer:
        """Make a call; a status other than the expected ones is an error that explains it."""
        answer = self.transport.request(method, quote(path), **options)
        if answer.status in expected:
            return answer
        message = self.transport.scrubbed(answer.text)
        if answer.status == FORBIDDEN:
            raise self._forbidden(answer, lambda: AcdError(ErrorCode.INGESTER_DENIED, "the ingester replied HTTP 403"))
        if answer.status == NOT_FOUND and what:
            raise AcdError(
                ErrorCode.INGESTER_REFUSED, f"the ingester has no {what}", "Check with 'acdtask ingester scenes'."
            )
        if answer.status >= FAILED and not any(text in message for text in SETTING_ERRORS):
            detail = f"{self.transport.place.host} failed with HTTP {answer.status}: {message or 'no reason given'}"
            raise AcdError(ErrorCode.INGESTER_UNREACHABLE, detail, "Check the ingester's log, and try again.")
        detail = f"{method} {path} was rejected with HTTP {answer.status}" + (f": {message}" if message else "")
        raise AcdError(ErrorCode.INGESTER_REFUSED, detail)

    def _forbidden(self, answer: Answer, otherwise: Callable[[], AcdError]) -> AcdError:
        """Explain HTTP 403: a wrong token if the body is a JSON string or if listing AOIs is forbidden too."""
        reason = _text_in(answer)
        if not reason and self.transport.request("GET", "/aoi/").status != FORBIDDEN:
            return otherwise()
        return AcdError(
            ErrorCode.INGESTER_DENIED,
            f"{self.transport.place.host} does not accept "
            + ("this token" if self.transport.place.token else "calls without a token")
            + (f": {self.transport.scrubbed(reason)}" if reason else ""),
        )


def require_name(name: str) -> str:
    """Return an AOI name that the ingester accepts. NAME_INVALID."""
    if not NAME.match(name):
        raise AcdError(
            ErrorCode.NAME_INVALID,
            f"{name!r} is not a valid AOI name for the ingester",
            "Use letters, digits, '-', ':' and '_', without '/'.",
        )
    return name


def _by_id(rows: Iterable[RowT]) -> dict[int, RowT]:
    return {row.id: row for row in rows}


def _expected(counts: Counts, status: Status | None) -> int:
    return int(getattr(counts, status.value.lower())) if status else counts.total


def _text_in(answer: Answer) -> str:
    """The string in a body that is a JSON string; otherwise empty."""
    try:
        value = json.loads(answer.body)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
