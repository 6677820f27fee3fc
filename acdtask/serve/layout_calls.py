"""The RPCs on layouts, grids and tiles; each method serves the RPC of the same name."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import shapely

from acdtask.cube.patterns import matcher
from acdtask.cube.protocol import layouts_pb2 as pb
from acdtask.cube.protocol.convert import grid_to_tile
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Layout, Tile
from acdtask.raster.repair import repaired
from acdtask.raster.tiling import each_tile, edge_points
from acdtask.serve.cancellation import check_wanted
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.errors import already_exists, invalid, not_found
from acdtask.serve.layouts import LayoutDetails, layout_of
from acdtask.serve.messages import area_of, is_name, query_of, require_short

__all__ = ["LayoutCalls"]

TILES_OF_A_MESSAGE = 1000
MOST_CELLS = 4_000_000
"""Maximum number of cells in the bounding boxes of an area's parts that one call may examine."""

MOST_EDGE_POINTS = 500_000
"""Maximum number of points of an area's edges after densification for the reprojection, which takes some seconds."""

SEARCH_S = 10.0


class LayoutCalls:
    """The RPCs on layouts and tiles. Every method raises RefusalError or AcdError."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._cube = catalogue.cube
        self._details = LayoutDetails(catalogue.cube.store)

    def create_layout(self, request: pb.CreateLayoutRequest) -> pb.CreateLayoutResponse:
        """Create a layout."""
        layout = layout_of(request.layout)
        with self._catalogue.lock:
            if any(existing.name == layout.name for existing in self._cube.layouts()):
                raise already_exists("Layout", "name", layout.name)
            self._details.keep(request.layout)
            self._cube.add_layout(layout)
        return pb.CreateLayoutResponse()

    def list_layouts(self, request: pb.ListLayoutsRequest) -> pb.ListLayoutsResponse:
        """List the layouts whose names match, as clients sent them."""
        matches = matcher(request.name_like or "*")
        return pb.ListLayoutsResponse(
            layouts=[self._details.of(layout) for layout in self._cube.layouts() if matches(layout.name)]
        )

    def delete_layout(self, request: pb.DeleteLayoutRequest) -> pb.DeleteLayoutResponse:
        """Remove a layout if it exists."""
        require_short(request.name)
        with self._catalogue.lock:
            self._cube.remove(layouts=[request.name])
            if is_name(request.name):
                self._details.forget(request.name)
        return pb.DeleteLayoutResponse()

    def tile_aoi(self, request: pb.TileAOIRequest) -> Iterator[pb.TileAOIResponse]:
        """Stream the tiles that an area touches, sorted by row, then column."""
        area = _polygons(area_of(request.aoi))
        if request.HasField("layout"):
            layout = layout_of(request.layout, name=request.layout.name)
        else:
            layout = self._named(request.layout_name)
        yield from _messages(each_tile(area, layout, most_cells=MOST_CELLS, check=_until(SEARCH_S)))

    def find_container_layouts(
        self, request: pb.FindContainerLayoutsRequest
    ) -> Iterator[pb.FindContainerLayoutsResponse]:
        """Stream the layouts of the consolidated containers of an instance, with those containers."""
        variable, instance = self._catalogue.instance(
            request.instance_id, f"invalid Instance.uuid {request.instance_id}"
        )
        if request.HasField("records"):
            if not request.records.ids:
                raise invalid("invalid record id list: cannot be empty")
            wanted = frozenset(request.records.ids)
        else:
            area = area_of(request.filters.aoi) if request.filters.HasField("aoi") else None
            records = self._cube.records(query_of(request.filters.filters, area))
            wanted = frozenset(record.id for record in records)
        uris_by_layout: dict[str, set[str]] = defaultdict(set)
        for dataset in self._cube.datasets(variable.name, instance.name, wanted):
            if dataset.layout:
                uris_by_layout[dataset.layout].add(self._catalogue.address_of(dataset.uri))
        for name, uris in sorted(uris_by_layout.items()):
            yield pb.FindContainerLayoutsResponse(layout_name=name, container_uris=sorted(uris))

    def list_grids(self, request: pb.ListGridsRequest) -> pb.ListGridsResponse:
        """Return an empty list."""
        return pb.ListGridsResponse()

    def _named(self, name: str) -> Layout:
        for layout in self._cube.layouts():
            if layout.name == name:
                return layout
        raise not_found("Layout", "name", name)


def _polygons(area: dict[str, Any]) -> Any:
    """The area as shapely polygons; self-intersections are repaired. AREA_TOO_COMPLEX."""
    shape = shapely.geometry.shape(area)
    points = edge_points(shape)
    if points > MOST_EDGE_POINTS:
        raise AcdError(
            ErrorCode.AREA_TOO_COMPLEX,
            f"the area's edges need {points} points for reprojection, more than {MOST_EDGE_POINTS}",
        )
    valid = repaired(shape)
    if valid is shape:
        return shape
    flat = [polygon for part in shapely.get_parts(valid) for polygon in shapely.get_parts(part)]
    return shapely.union_all([polygon for polygon in flat if polygon.geom_type == "Polygon"])


def _until(seconds: float) -> Callable[[], None]:
    """A check that raises when the time is over or the client has left. AREA_TOO_COMPLEX, GoneError."""
    end = time.monotonic() + seconds

    def check() -> None:
        check_wanted()
        if time.monotonic() > end:
            raise AcdError(ErrorCode.AREA_TOO_COMPLEX, f"the tiles of the area were not found within {seconds:g} s")

    return check


def _messages(tiles: Iterable[Tile]) -> Iterator[pb.TileAOIResponse]:
    rest = iter(tiles)
    while batch := list(islice(rest, TILES_OF_A_MESSAGE)):
        yield pb.TileAOIResponse(tiles=[grid_to_tile(tile.grid) for tile in batch])
