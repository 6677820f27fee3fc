"""Geocube's services on a local cube."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc

from acdtask import __version__
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.protocol import services_pb2 as pb
from acdtask.cube.protocol.services_pb2_grpc import GeocubeServicer
from acdtask.cube.server.catalogue import Catalogue
from acdtask.cube.server.layout_calls import LayoutCalls
from acdtask.cube.server.records import RecordCalls
from acdtask.cube.server.variables import VariableCalls

__all__ = ["VERSION", "GeocubeService", "method_name"]

VERSION = f"1.0.3-acd.{__version__}"
"""The Geocube whose API this is, and what answers."""

RPCS = tuple(one.name for one in pb.DESCRIPTOR.services_by_name["Geocube"].methods)
BEFORE_A_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def method_name(rpc: str) -> str:
    """The name of an RPC as a method.

    >>> method_name("TileAOI"), method_name("GetXYZTile")
    ('tile_aoi', 'get_xyz_tile')
    """
    return BEFORE_A_WORD.sub("_", rpc).lower()


class GeocubeService(GeocubeServicer):
    """The service Geocube.

    Args:
        cube: what is served.
        parts: objects with methods of the RPCs' names, called with request and context; they stand before those of
            the server itself.
    """

    def __init__(self, cube: LocalCube, *parts: object) -> None:
        catalogue = Catalogue(cube)
        own = (RecordCalls(catalogue), VariableCalls(catalogue), LayoutCalls(catalogue))
        for rpc in RPCS:
            method = _method(rpc, parts, own)
            if method is not None:
                setattr(self, rpc, method)

    def Version(self, request: pb.GetVersionRequest, context: grpc.ServicerContext) -> pb.GetVersionResponse:  # noqa: N802  # the RPC's name
        """The version of the API, and acd's."""
        return pb.GetVersionResponse(Version=VERSION)


def _method(rpc: str, parts: tuple[object, ...], own: tuple[object, ...]) -> Callable[[Any, Any], Any] | None:
    for part in parts:
        given: Callable[[Any, Any], Any] | None = getattr(part, rpc, None)
        if given is not None:
            return given
    for part in own:
        plain: Callable[[Any], Any] | None = getattr(part, method_name(rpc), None)
        if plain is not None:
            return lambda request, context: plain(request)
    return None
