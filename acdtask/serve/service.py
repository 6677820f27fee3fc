"""Assembles Geocube's services on a local cube from the RPCs of each topic."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import grpc

from acdtask import __version__
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.protocol import services_pb2 as pb
from acdtask.cube.protocol.services_pb2_grpc import AdminServicer, GeocubeServicer
from acdtask.serve.admin import AdminCalls
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.consolidation.jobs import ConsolidationJobs
from acdtask.serve.cubes import CubeCalls
from acdtask.serve.datasets import DatasetCalls
from acdtask.serve.deletions import Deletions
from acdtask.serve.errors import not_served
from acdtask.serve.jobs import JobCalls
from acdtask.serve.layout_calls import LayoutCalls
from acdtask.serve.managed import Managed
from acdtask.serve.records import RecordCalls
from acdtask.serve.streams import Streams
from acdtask.serve.variables import VariableCalls

__all__ = ["VERSION", "method_name", "services_of"]

VERSION = f"1.0.3-acd.{__version__}"
"""The version of Geocube's API, and of acd."""

Method: TypeAlias = Callable[[Any, grpc.ServicerContext], Any]

NO_GRIDS = "acd supports only regular grids, which are defined by their layout; it does not store grids of single cells"
FIXED_TAGS = (
    "tags cannot be changed because a record's id is computed from its name, time and tags; create a new record instead"
)
NOT_SERVED = {
    "CreateGrid": NO_GRIDS,
    "DeleteGrid": NO_GRIDS,
    "AddRecordsTags": FIXED_TAGS,
    "RemoveRecordsTags": FIXED_TAGS,
    "TidyDB": "acd has no database to tidy; delete unused records by their ids",
}
"""RPCs that acd does not serve on purpose, with the reason."""

BEFORE_A_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def method_name(rpc: str) -> str:
    """The name of the method that serves an RPC.

    >>> method_name("TileAOI"), method_name("GetXYZTile")
    ('tile_aoi', 'get_xyz_tile')
    """
    return BEFORE_A_WORD.sub("_", rpc).lower()


class VersionCall:
    """The RPC Version."""

    def version(self, request: pb.GetVersionRequest) -> pb.GetVersionResponse:
        """Return the version of the API and of acd."""
        return pb.GetVersionResponse(Version=VERSION)


def services_of(
    cube: LocalCube,
    consolidations: ConsolidationJobs,
    streams: Streams,
    data: Sequence[str] = (),
    wake: Callable[[], None] = lambda: None,
) -> tuple[GeocubeServicer, AdminServicer]:
    """The services Geocube and Admin on a cube.

    Containers may be in the cube, and below the folders and s3:// prefixes in `data`. `streams` is shared with the
    downloader; `wake` is called when a consolidation job has a step to do.
    """
    cube = cube.confined(data)
    catalogue, managed = Catalogue(cube), Managed(cube.store, data)
    jobs = JobCalls(catalogue, consolidations, Deletions(cube, managed, consolidations), wake)
    geocube = servicer(
        "Geocube",
        RecordCalls(catalogue),
        VariableCalls(catalogue),
        LayoutCalls(catalogue),
        DatasetCalls(catalogue, managed),
        CubeCalls(cube, streams),
        jobs,
        VersionCall(),
    )
    return cast("GeocubeServicer", geocube), cast("AdminServicer", servicer("Admin", AdminCalls(catalogue), jobs))


def servicer(service: str, *parts: object) -> SimpleNamespace:
    """An object with a method for each RPC of a service, taken from the first part that serves it.

    A part serves an RPC by a method with the RPC's own name that takes request and context, or, usually, by a method
    with its name in snake case that takes only the request. RPCs without a method are UNIMPLEMENTED.
    """
    rpcs = [method.name for method in pb.DESCRIPTOR.services_by_name[service].methods]
    return SimpleNamespace(**{rpc: _method(rpc, parts) for rpc in rpcs})


def _method(rpc: str, parts: tuple[object, ...]) -> Method:
    for part in parts:
        whole: Method | None = getattr(part, rpc, None)
        if whole is not None:
            return whole
        plain: Callable[[Any], Any] | None = getattr(part, method_name(rpc), None)
        if plain is not None:
            return lambda request, _: plain(request)

    def missing(_: Any, __: grpc.ServicerContext) -> Any:
        raise not_served(NOT_SERVED.get(rpc, f"acd does not serve {rpc}"))

    return missing
