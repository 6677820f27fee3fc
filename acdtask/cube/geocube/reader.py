"""Reading of pixels from a Geocube: translates ids and assigns the images that arrive to groups and slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.downloader import PixelSource
from acdtask.cube.geocube.frames import empty_images
from acdtask.cube.geocube.index import Containers
from acdtask.cube.geocube.records import Records
from acdtask.cube.geocube.stream import Arrival, Group, ImageSpec, Target
from acdtask.cube.geocube.variables import ServedInstance, Variables
from acdtask.cube.model import FOREIGN, CubeRequest, Dataset, Image, Outcome, Slice, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid

__all__ = ["Reader"]


class Reader:
    """Reads images from a Geocube or its downloader."""

    def __init__(self, channel: Channel, variables: Variables, records: Records, containers: Containers) -> None:
        self._channel = channel
        self._variables = variables
        self._records = records
        self._containers = containers
        self._source = PixelSource(channel)

    def groups_of(self, served: ServedInstance, groups: Iterable[tuple[str, ...]]) -> list[Group]:
        """The groups in the server's ids, without records that have no dataset of the instance there."""
        groups = list(groups)
        if self._records.unknown(record_id for group in groups for record_id in group):
            with self._variables.forgetting(served):
                self._containers.listed(served)
        server_id_of = self._records.identities.server_id
        return [tuple(server_id for own in group if (server_id := server_id_of(own))) for group in groups]

    def where(
        self, served: ServedInstance, record_ids: Iterable[str], grids: Sequence[Grid]
    ) -> Iterator[list[Dataset]]:
        """For each grid, one dataset per intersecting record, as `GeocubeCube.where`."""
        groups = self.groups_of(served, [(record_id,) for record_id in dict.fromkeys(record_ids)])
        known = [group for group in groups if group]
        own_id_of = self._records.identities.own_id

        def datasets_on(grid: Grid) -> list[Dataset]:
            with self._variables.forgetting(served):
                arrivals = self._source.outlines(_spec(served, grid), known)
                ids = [known[arrival.number][0] for arrival in arrivals if arrival.outcome is not Outcome.ABSENT]
            return [_to_read(served, own_id_of(server_id) or "", server_id, grid) for server_id in ids]

        yield from self._channel.in_parallel(datasets_on, list(grids))

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """Each group's image or the reason why it has none, as in `Cube.images`. LAYOUT_INVALID for an unknown CRS."""
        served = self._variables.served(request.variable, request.instance)
        arrays: dict[int, Pixels] = {}

        def target(number: int) -> Pixels:
            if number not in arrays:
                arrays[number] = empty_images(1, served.variable, request.grid.shape)[0]
            return arrays[number]

        for image in self._images(request, served, target):
            arrays.clear()  # the caller owns the image now; keeping it would hold every image in memory
            yield image

    def stack(self, request: CubeRequest) -> tuple[Pixels, list[Image]]:
        """All images in one array, and the outcome of each group, as `GeocubeCube.stack`."""
        served = self._variables.served(request.variable, request.instance)
        pixels = empty_images(len(dict.fromkeys(request.groups)), served.variable, request.grid.shape)
        images: list[Image] = []
        filled: dict[int, None] = {}  # ids of arrays: a group that is requested twice has only one
        for image in self._images(request, served, lambda _: pixels[len(filled)]):
            images.append(image)
            if image.pixels is not None:
                filled[id(image.pixels)] = None
        return pixels[: len(filled)], images

    def _images(self, request: CubeRequest, served: ServedInstance, target: Target) -> Iterator[Image]:
        """The images of the groups; a group that is requested twice is read once."""
        groups = self.groups_of(served, request.groups)
        distinct = list(dict.fromkeys(group for group in groups if group))
        uses = Counter(group for group in groups if group)
        spec = _spec(served, request.grid, request.resampling)
        kept: dict[Group, Arrival] = {}  # images of groups that follow again
        with self._variables.forgetting(served):
            arrivals = self._source.images(spec, distinct, target)
            for records, group in zip(request.groups, groups, strict=True):
                if not group:
                    yield Image(records, Outcome.ABSENT)
                    continue
                arrival = kept.pop(group, None) or next(arrivals)
                uses[group] -= 1
                if uses[group]:
                    kept[group] = arrival
                yield Image(records, arrival.outcome, arrival.pixels, arrival.reason)

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """The pixels of each slice on the grid, as in `Cube.read`. IMAGE_FAILED, LAYOUT_INVALID."""
        pixels = empty_images(len(slices), variable, grid.shape)
        start = 0
        for instance, run in groupby(slices, key=_instance_of):
            part = list(run)
            self._fill(pixels[start : start + len(part)], grid, part, variable, instance, resampling)
            start += len(part)
        return pixels

    def _fill(
        self,
        pixels: Pixels,
        grid: Grid,
        slices: list[Slice],
        variable: Variable,
        instance: str | None,
        resampling: Resampling | None,
    ) -> None:
        """Fill the pixels of consecutive slices of one instance; `instance` is None for slices without a dataset."""
        nodata = variable.dformat.nodata
        if instance is None:
            pixels[...] = nodata
            return
        served = self._variables.served(variable.name, instance)
        _check_same(variable, served.variable)
        # Slices of the same group share one image: it arrives in the first slice and is copied to the others.
        indices: dict[Group, list[int]] = {}
        for index, item in enumerate(slices):
            indices.setdefault(self._group_of(served, item), []).append(index)
        groups = [group for group in indices if group]
        spec = _spec(served, grid, resampling)
        with self._variables.forgetting(served):
            for arrival in self._source.images(spec, groups, lambda number: pixels[indices[groups[number]][0]]):
                first, *others = indices[groups[arrival.number]]
                if arrival.outcome is Outcome.FAILED:
                    raise AcdError(ErrorCode.IMAGE_FAILED, f"image {slices[first].label or first}: {arrival.reason}")
                if arrival.outcome is not Outcome.DATA:
                    pixels[first] = nodata
                for other in others:
                    pixels[other] = pixels[first]
        for index in indices.get((), ()):
            pixels[index] = nodata

    def _group_of(self, served: ServedInstance, item: Slice) -> Group:
        server_ids = [dataset.uri.removeprefix(FOREIGN) for dataset in item.datasets if dataset.uri.startswith(FOREIGN)]
        if len(server_ids) < len(item.datasets):  # datasets from `datasets`, which have addresses of files
            (group,) = self.groups_of(served, [tuple(dataset.record_id for dataset in item.datasets)])
            return group
        return tuple(dict.fromkeys(server_ids))


def _spec(served: ServedInstance, grid: Grid, resampling: Resampling | None = None) -> ImageSpec:
    """The spec for images of an instance. LAYOUT_INVALID for an unknown CRS."""
    from acdtask.raster.points import crs_of

    crs_of(grid.crs)
    return ImageSpec(served.id, served.variable, grid, resampling)


def _instance_of(item: Slice) -> str | None:
    names = {dataset.instance for dataset in item.datasets}
    if len(names) > 1:
        detail = f"the image {item.label} has datasets of several instances: {' and '.join(sorted(names))}"
        raise AcdError(ErrorCode.SETTING_INVALID, detail)
    return names.pop() if names else None


def _check_same(given: Variable, served: Variable) -> None:
    if (given.dformat.dtype, len(given.bands)) != (served.dformat.dtype, len(served.bands)):
        detail = f"{given.name} is read as {given.dformat.dtype} x {len(given.bands)} bands, but the Geocube has "
        raise AcdError(ErrorCode.VARIABLE_CONFLICT, f"{detail}{served.dformat.dtype} x {len(served.bands)}")


def _to_read(served: ServedInstance, record_id: str, server_id: str, grid: Grid) -> Dataset:
    variable = served.variable
    return Dataset.model_construct(
        record_id=record_id,
        variable=variable.name,
        instance=served.instance.name,
        uri=f"{FOREIGN}{server_id}",
        bands=tuple(range(1, len(variable.bands) + 1)),
        dformat=variable.dformat,
        grid=grid,
    )
