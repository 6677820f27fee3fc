"""Pixels of a Geocube: what is asked of it in its own ids, and where what arrives belongs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from acdtask.cube.geocube.catalogue import Catalogue, Served
from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.downloader import PixelSource
from acdtask.cube.geocube.frames import empty_images
from acdtask.cube.geocube.index import Containers
from acdtask.cube.geocube.records import Records
from acdtask.cube.geocube.stream import Arrival, Asked, Group, Target
from acdtask.cube.model import CubeRequest, Dataset, Image, Outcome, Slice, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid

__all__ = ["FOREIGN", "Reader"]

FOREIGN = "geocube:"
"""How the address of a dataset begins that the server reads for us; the server's id of its record follows."""


class Reader:
    """Asks a Geocube, or the downloader beside it, for images."""

    def __init__(self, channel: Channel, catalogue: Catalogue, records: Records, containers: Containers) -> None:
        self._channel = channel
        self._catalogue = catalogue
        self._records = records
        self._containers = containers
        self._source = PixelSource.of(channel)

    def groups_of(self, served: Served, groups: Iterable[tuple[str, ...]]) -> list[Group]:
        """The groups in the server's ids; without records that it has not, or that have no dataset of the instance."""
        groups = list(groups)
        if self._records.unknown(one for group in groups for one in group):
            with self._catalogue.forgetting(served):
                self._containers.listed(served)
        known = self._records.identities.server_id
        return [tuple(one for own in group if (one := known(own))) for group in groups]

    def where(self, served: Served, record_ids: Iterable[str], grids: Sequence[Grid]) -> Iterator[list[Dataset]]:
        """For each grid a dataset for each record that lies there, in the records' order, as `GeocubeCube.where`."""
        groups = self.groups_of(served, [(one,) for one in dict.fromkeys(record_ids)])
        there = [group for group in groups if group]
        own = self._records.identities.own_id

        def look(grid: Grid) -> list[Dataset]:
            with self._catalogue.forgetting(served):
                arrivals = self._source.outlines(_asked(served, grid), there)
                ids = [there[one.number][0] for one in arrivals if one.outcome is not Outcome.ABSENT]
            return [_to_read(served, own(one) or "", one, grid) for one in ids]

        yield from self._channel.in_parallel(look, list(grids))

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """Each group's image or why there is none, as `Cube.images` says. LAYOUT_INVALID for an unknown CRS."""
        served = self._catalogue.served(request.variable, request.instance)
        arrays: dict[int, Pixels] = {}

        def target(number: int) -> Pixels:
            if number not in arrays:
                arrays[number] = empty_images(1, served.variable, request.grid.shape)[0]
            return arrays[number]

        for image in self._images(request, served, target):
            arrays.clear()  # whoever asked for the image has it now
            yield image

    def stack(self, request: CubeRequest) -> tuple[Pixels, list[Image]]:
        """All images in one array, and what became of each group, as `GeocubeCube.stack`."""
        served = self._catalogue.served(request.variable, request.instance)
        pixels = empty_images(len(dict.fromkeys(request.groups)), served.variable, request.grid.shape)
        images: list[Image] = []
        filled: dict[int, None] = {}  # ids of arrays: a group that is asked for twice has one
        for image in self._images(request, served, lambda _: pixels[len(filled)]):
            images.append(image)
            if image.pixels is not None:
                filled[id(image.pixels)] = None
        return pixels[: len(filled)], images

    def _images(self, request: CubeRequest, served: Served, target: Target) -> Iterator[Image]:
        """The images of the groups, a group that is asked for twice from one reading."""
        groups = self.groups_of(served, request.groups)
        distinct = list(dict.fromkeys(group for group in groups if group))
        uses = Counter(group for group in groups if group)
        asked = _asked(served, request.grid, request.resampling)
        kept: dict[Group, Arrival] = {}
        with self._catalogue.forgetting(served):
            arrivals = self._source.images(asked, distinct, target)
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
        """The pixels of each slice on the grid, as `Cube.read` says. IMAGE_FAILED, LAYOUT_INVALID."""
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
        """Put the images of an instance where they belong; None for slices without a dataset."""
        nodata = variable.dformat.nodata
        if instance is None:
            pixels[...] = nodata
            return
        served = self._catalogue.served(variable.name, instance)
        _check_same(variable, served.variable)
        places: dict[Group, list[int]] = {}
        for place, one in enumerate(slices):
            places.setdefault(self._group_of(served, one), []).append(place)
        groups = [group for group in places if group]
        asked = _asked(served, grid, resampling)
        with self._catalogue.forgetting(served):
            for arrival in self._source.images(asked, groups, lambda number: pixels[places[groups[number]][0]]):
                first, *others = places[groups[arrival.number]]
                if arrival.outcome is Outcome.FAILED:
                    raise AcdError(ErrorCode.IMAGE_FAILED, f"image {slices[first].label or first}: {arrival.reason}")
                if arrival.outcome is not Outcome.DATA:
                    pixels[first] = nodata
                for other in others:
                    pixels[other] = pixels[first]
        for place in places.get((), ()):
            pixels[place] = nodata

    def _group_of(self, served: Served, one: Slice) -> Group:
        named = [dataset.uri.removeprefix(FOREIGN) for dataset in one.datasets if dataset.uri.startswith(FOREIGN)]
        if len(named) < len(one.datasets):  # datasets as `datasets` lists them
            (group,) = self.groups_of(served, [tuple(dataset.record_id for dataset in one.datasets)])
            return group
        return tuple(dict.fromkeys(named))


def _asked(served: Served, grid: Grid, resampling: Resampling | None = None) -> Asked:
    """What is asked of an instance. LAYOUT_INVALID for an unknown CRS."""
    from acdtask.raster.points import crs_of

    crs_of(grid.crs)
    return Asked(served.id, served.variable, grid, resampling)


def _instance_of(one: Slice) -> str | None:
    names = {dataset.instance for dataset in one.datasets}
    if len(names) > 1:
        detail = f"the image {one.label} has datasets of the instances {' and '.join(sorted(names))}"
        raise AcdError(ErrorCode.SETTING_INVALID, detail)
    return names.pop() if names else None


def _check_same(given: Variable, there: Variable) -> None:
    if (given.dformat.dtype, len(given.bands)) != (there.dformat.dtype, len(there.bands)):
        detail = f"{given.name} is read as {given.dformat.dtype} x {len(given.bands)}, and the Geocube has "
        raise AcdError(ErrorCode.VARIABLE_CONFLICT, f"{detail}{there.dformat.dtype} x {len(there.bands)}")


def _to_read(served: Served, record_id: str, server_id: str, grid: Grid) -> Dataset:
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
