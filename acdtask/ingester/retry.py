"""Restart permanent failures, which the ingester's own retry does not touch."""

from __future__ import annotations

from acdtask.ingester.client import IngesterClient, Restarted
from acdtask.ingester.model import Kind, Status

__all__ = ["retry_failed"]


def retry_failed(client: IngesterClient, name: str) -> Restarted:
    """Restart the failed scenes of an AOI with their tiles, and the failed tiles of scenes that are done.

    A failed tile has lost its predecessor: the ingester linked the neighbours to each other, and processes the tile as
    the first of a chain. The call is idempotent, so an interrupted one can be repeated. NAME_INVALID, INGESTER_REFUSED.
    """
    client.aoi(name)
    scenes = client.scenes(name, Status.FAILED)
    tiles = client.tiles(name, Status.FAILED)
    failed = {scene.id for scene in scenes}
    for tile in tiles:  # tiles first: a restarted scene starts only tiles that are NEW
        client.force(Kind.TILE, tile.id, Status.NEW if tile.scene.id in failed else Status.PENDING)
    for scene in scenes:
        client.force(Kind.SCENE, scene.id, Status.PENDING)
    return Restarted(len(scenes), len(tiles))
