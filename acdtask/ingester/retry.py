"""Starting again what failed for good, which the ingester's own retry leaves alone."""

from __future__ import annotations

from acdtask.ingester.client import IngesterClient, Restarted
from acdtask.ingester.model import Kind, Status

__all__ = ["retry_failed"]


def retry_failed(client: IngesterClient, name: str) -> Restarted:
    """Start the failed scenes of an AOI again with their tiles, and the failed tiles of scenes that are done.

    A tile that failed has lost the tile before it: the ingester has joined its neighbours, and processes it as a first
    one. Done twice it does nothing more, so an interrupted call is repeated. NAME_INVALID, INGESTER_REFUSED, ...
    """
    client.aoi(name)
    scenes = client.scenes(name, Status.FAILED)
    tiles = client.tiles(name, Status.FAILED)
    failed = {scene.id for scene in scenes}
    for tile in tiles:  # first, since a scene that is done again starts only tiles that are new
        client.force(Kind.TILE, tile.id, Status.NEW if tile.scene.id in failed else Status.PENDING)
    for scene in scenes:
        client.force(Kind.SCENE, scene.id, Status.PENDING)
    return Restarted(len(scenes), len(tiles))
