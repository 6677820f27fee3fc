"""Scenes and tiles for drawings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from acdtask.ingester.model import Scene, SceneData, SceneId, Status, Tile, TileData

__all__ = ["many", "scene", "series", "tile"]

START = datetime(2021, 1, 7, 5, 42, 40, tzinfo=UTC)


def scene(number: int, day: int, name: str = "", status: Status = Status.DONE, message: str = "") -> Scene:
    """A scene some days after the first."""
    date = START + timedelta(days=day)
    stamp = f"{date:%Y%m%dT%H%M%S}"
    name = name or f"S1A_IW_SLC__1SDV_{stamp}_{stamp}_{35944 + number:06d}_0{43606 + number}_{number:04X}"
    return Scene(id=number, source_id=name, data=SceneData(date=date), status=status, message=message)


def tile(
    number: int,
    of: int,
    nr: int,
    previous: int | None = None,
    reference: int | None = None,
    status: Status = Status.DONE,
    swath: str = "IW1",
    message: str = "",
) -> Tile:
    """A burst of a scene."""
    return Tile(
        id=number,
        source_id=f"T15_{swath}_{nr}",
        scene=SceneId(id=of),
        data=TileData(swath_id=swath, tile_nr=nr),
        status=status,
        message=message,
        previous=previous,
        reference=reference,
    )


def series(
    scenes: int, bursts: int, every: int = 12, status: Callable[[int, int], Status] = lambda _row, _nr: Status.DONE
) -> tuple[list[Scene], list[Tile]]:
    """Scenes of one track, in which each burst is processed with the previous and the first one."""
    made = [scene(row + 1, row * every) for row in range(scenes)]
    tiles = []
    for row in range(scenes):
        for burst in range(bursts):
            number = row * bursts + burst + 1
            tiles.append(
                tile(
                    number,
                    row + 1,
                    burst % 3 + 1,
                    previous=number - bursts if row else None,
                    reference=burst + 1 if row else None,
                    status=status(row, burst),
                    swath=f"IW{burst // 3 + 1}",
                )
            )
    return made, tiles


def many(scenes: int, bursts: int) -> tuple[list[Scene], list[Tile]]:
    """Many scenes, some of them with problems."""
    kinds = [Status.DONE] * 17 + [Status.PENDING, Status.RETRY, Status.FAILED]
    made, tiles = series(scenes, bursts, 3, lambda row, nr: kinds[(row * 7 + nr) % 20])
    return [item.model_copy(update={"status": kinds[item.id % 20]}) for item in made], tiles
