"""The words of the cube: records, variables, instances, datasets."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from acdtask.raster.data_format import DataFormat, Pixels, Resampling
from acdtask.raster.grid import Grid, Layout

__all__ = [
    "NAME_BYTES",
    "OUTSIDE",
    "RECORD_NAME_BYTES",
    "Addition",
    "Cube",
    "CubeRequest",
    "Dataset",
    "DescribedName",
    "Image",
    "Instance",
    "Moment",
    "Name",
    "NameIfAny",
    "Outcome",
    "Record",
    "RecordQuery",
    "Slice",
    "Variable",
]

NAME_RULE = re.compile(r"^[a-zA-Z0-9\-:_]+(/[a-zA-Z0-9\-:_]+)*$")
"""Geocube's rule for names (airbusgeo/geocube, internal/geocube/urn.go)."""

OUTSIDE = ("/", "s3://", "file://")
"""How the addresses of containers begin that are not the cube's own."""


NAME_BYTES = 200
"""Longest name of an AOI, variable, instance, layout or palette: files are called by it, with an ending."""

DESCRIBED_NAME_BYTES = 180
"""Longest name of a variable that gets a baseline, whose variables have its name and more."""

RECORD_NAME_BYTES = 255


def _within(limit: int) -> Callable[[str], str]:
    def check(name: str) -> str:
        if not NAME_RULE.match(name):
            raise ValueError(
                f"{name[:limit]!r} is not a name: letters, digits, '-', ':' and '_', with '/' between parts"
            )
        if len(name) > limit:
            raise ValueError(f"a name may have {limit} bytes at most, and this one has {len(name)}: {name[:20]}...")
        return name

    return check


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Name = Annotated[str, AfterValidator(_within(NAME_BYTES))]
DescribedName = Annotated[str, AfterValidator(_within(DESCRIBED_NAME_BYTES))]
NameIfAny = Annotated[str, AfterValidator(lambda name: name and _within(NAME_BYTES)(name))]
RecordName = Annotated[str, AfterValidator(_within(RECORD_NAME_BYTES))]
Moment = Annotated[datetime, AfterValidator(_utc)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def _is_default(default: Any) -> Callable[[Any], bool]:
    """Leaves a newer field out of JSON at its default, so that what was written before keeps its bytes."""
    return lambda value: bool(value == default)


class Variable(_Value):
    """A quantity. `scale` turns a stored number into the unit: physical = stored * scale.

    `palette` is the name of a palette that pictures of it are drawn with.
    """

    name: Name
    dformat: DataFormat
    unit: str = ""
    description: str = ""
    bands: tuple[str, ...] = ("",)
    resampling: Resampling = "bilinear"
    scale: float = 1.0
    palette: str = Field(default="", exclude_if=_is_default(""))


class Instance(_Value):
    """A version of a variable."""

    variable: Name
    name: Name
    metadata: dict[str, str] = {}


class Record(_Value):
    """One acquisition. Name, tags and datetime together are its identity.

    `footprint` is a GeoJSON geometry in longitude and latitude.
    """

    name: RecordName
    datetime: Moment
    tags: dict[str, str] = {}
    footprint: dict[str, Any]

    @property
    def id(self) -> str:
        """A UUID made from the identity, so that the same record has the same id everywhere.

        >>> from datetime import datetime
        >>> Record(name="S1A", datetime=datetime(2021, 1, 7), footprint={}).id
        '96e564c9-562d-57eb-96e2-ec1e734d55e4'
        """
        tags = "\n".join(f"{key}={value}" for key, value in sorted(self.tags.items()))
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"acd:record\n{self.name}\n{self.datetime.isoformat()}\n{tags}"))


class Dataset(_Value):
    """One record x instance in a container.

    Attributes:
        uri: the container: a key below the cube's root, or an absolute path or an s3:// or file:// address outside it;
            `geocube:` and the server's id of the record, if a server reads it for us.
        subdir: where in the container: empty for a GeoTIFF, the time index for a consolidated Zarr.
        bands: band numbers in the container, from 1, in the order of the variable's bands.
        dformat: how the container keeps its numbers; its range maps onto `real`.
        grid: the container's own grid; that of the tile that was asked for, if a server reads it.
        layout, cell: for a consolidated container or a product, the tile that it is; empty otherwise.
        real: what dformat.min and dformat.max are in the variable's numbers; default: the variable's own range.
        exponent: a number v of the container is
            (real max - real min) * ((v - min) / (max - min)) ** exponent + real min, rounded for a variable of whole
            numbers. What lies outside the range is mapped too, but with an exponent that is not 1 it counts as the
            nearer end, as in GDAL.
        exchanged: it took the place of the datasets that it was made of (`LocalCube.exchange`), so it is read wherever
            it lies. Others with a layout stand in for a record's own datasets where they have the very pixels that are
            asked for, and where there are no others.
        checksum: SHA-256 of the file as it was written, as hexadecimal multihash; of `zarr.json` for a consolidated
            container. Readers check the pixels of a dataset that has one. Empty for files that acd did not write.
        version: 1, and one more for each time that an ingest gave the record other pixels.
    """

    record_id: str
    variable: Name
    instance: Name
    uri: str
    subdir: str = ""
    bands: tuple[int, ...] = (1,)
    dformat: DataFormat
    grid: Grid
    layout: str = ""
    cell: str = ""
    real: tuple[FiniteFloat, FiniteFloat] | None = Field(default=None, exclude_if=_is_default(None))
    exponent: FiniteFloat = Field(default=1.0, gt=0, exclude_if=_is_default(1.0))
    exchanged: bool = Field(default=False, exclude_if=_is_default(False))
    checksum: str = Field(default="", exclude_if=_is_default(""))
    version: int = Field(default=1, ge=1, exclude_if=_is_default(1))

    @model_validator(mode="after")
    def _rising(self) -> Dataset:
        if self.real is not None and not self.real[0] < self.real[1]:
            raise ValueError(f"real min {self.real[0]} is not below real max {self.real[1]}")
        return self

    @property
    def is_copy(self) -> bool:
        """Whether it is a tile of a layout that others of its record may have been consolidated to."""
        return bool(self.layout) and not self.exchanged

    @property
    def is_outside(self) -> bool:
        """Whether its container lies outside the cube."""
        return self.uri.startswith(OUTSIDE)


class Slice(_Value):
    """The records that make one image of a stack (`group_by date`), and where their pixels are.

    Where datasets overlap, the later one in the list lies on top.
    """

    label: str
    datasets: tuple[Dataset, ...]


class RecordQuery(_Value):
    """Which records. An empty field asks for nothing; bounds are inclusive.

    Attributes:
        name: pattern with `*` and `?`; a last `(?i)` makes it match in any case (`acdtask.cube.patterns`).
        tags: each must be there; the value may be a pattern, and an empty value means that the tag exists.
        area: GeoJSON geometry in longitude and latitude that the footprint must meet.
        limit, page: with a limit, only so many records: those of a page, counted from 0. Without one, everything.
    """

    name: str = ""
    tags: dict[str, str] = {}
    start: Moment | None = None
    end: Moment | None = None
    area: dict[str, Any] | None = None
    limit: int = Field(default=0, ge=0)
    page: int = Field(default=0, ge=0)


class CubeRequest(_Value):
    """Images of an instance on a grid, one for each group of records.

    Attributes:
        groups: ids of records; where the records of a group overlap, the later one lies on top.
        resampling: default: the variable's.
    """

    variable: Name
    instance: Name
    grid: Grid
    groups: tuple[tuple[str, ...], ...]
    resampling: Resampling | None = None


class Outcome(Enum):
    """What became of an image of a cube."""

    DATA = "data"
    NODATA = "no data"  # datasets, but no valid pixel
    ABSENT = "absent"  # no dataset
    FAILED = "failed"


@dataclass(frozen=True)
class Image:
    """An image of a cube, or why there is none.

    Attributes:
        records: ids of its group, as it was asked for.
        pixels: shape (height, width), for variables of several bands (bands, height, width), the variable's dtype;
            None unless the outcome is DATA.
        reason: why it failed; empty otherwise.
    """

    records: tuple[str, ...]
    outcome: Outcome
    pixels: Pixels | None = None
    reason: str = ""


@dataclass(frozen=True)
class Addition:
    """What a commit adds: all of it becomes visible, and what is there already is left alone."""

    records: Sequence[Record] = ()
    datasets: Sequence[Dataset] = ()
    variables: Sequence[Variable] = ()
    instances: Sequence[Instance] = ()
    layouts: Sequence[Layout] = ()


class Cube(Protocol):
    """Where pixels live. Every method raises AcdError."""

    def commit(self, addition: Addition) -> bool:
        """Make all of it visible; what is there already is left alone.

        A local cube does it at once. Another does it in this order: variables, instances, layouts, records, datasets;
        what broke off half way is made whole by the same commit again.

        Returns:
            Whether anything was new.

        Raises:
            AcdError: VARIABLE_CONFLICT, LAYOUT_CONFLICT, DATASET_CONFLICT, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, ...
        """

    def add_variable(self, variable: Variable) -> None:
        """Make the variable; nothing happens if the same is there. VARIABLE_CONFLICT if another is."""

    def add_instance(self, instance: Instance) -> None:
        """Make the instance; nothing happens if it is there. VARIABLE_UNKNOWN."""

    def add_layout(self, layout: Layout) -> None:
        """Make the layout; nothing happens if the same is there. LAYOUT_CONFLICT if another is."""

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN."""

    def variables(self) -> list[Variable]:
        """Every variable, by name."""

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, by name. VARIABLE_UNKNOWN."""

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN."""

    def layouts(self) -> list[Layout]:
        """Every layout, by name."""

    def records(self, query: RecordQuery) -> list[Record]:
        """The records that the query asks for, by datetime, then name, then id."""

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        """The datasets of an instance (of some records), by record, layout, cell and uri.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """

    def index(self, records: list[Record], datasets: list[Dataset]) -> None:
        """Make records and datasets visible, all at once; what is there already is left alone. DATASET_CONFLICT."""

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset of the instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], grids: Sequence[Grid], layout: str = ""
    ) -> Iterator[list[Dataset]]:
        """For each grid, the datasets of the records to read there, as `read` takes them, in the records' order.

        Any grid will do: the margin of a grown tile contains exactly what its neighbours read. With a layout, of all
        consolidated copies only those of this layout are used. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """Each group's image or why there is none, in the order of the groups; read as they are asked for.

        A container that cannot be read is that image's outcome. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """The pixels of each slice on the grid. Raises if a container cannot be read.

        Returns:
            Shape (slices, height, width), for variables of several bands (slices, bands, height, width); the
            variable's dtype; its nodata where no dataset has a valid pixel.
        """
