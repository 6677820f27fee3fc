"""The cube's model: records, variables, instances, datasets, and the interface of a cube."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, WithJsonSchema, model_validator

from acdtask.raster.data_format import DataFormat, Pixels, Resampling
from acdtask.raster.grid import Grid, Layout

__all__ = [
    "DESCRIBED_NAME_BYTES",
    "FOREIGN",
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
    "Value",
    "Variable",
    "in_utc",
]

NAME_RULE = re.compile(r"^[a-zA-Z0-9\-:_]+(/[a-zA-Z0-9\-:_]+)*$")
"""Geocube's rule for names (airbusgeo/geocube, internal/geocube/urn.go)."""

OUTSIDE = ("/", "s3://", "file://")
"""Prefixes of the addresses of containers outside the cube."""

FOREIGN = "geocube:"
"""Prefix of the address of a dataset that a Geocube reads; the server's id of its record follows."""

NAME_BYTES = 200
"""Limit for names of AOIs, variables, instances, layouts and palettes, which are also names of files."""

DESCRIBED_NAME_BYTES = 180
"""Limit for the name of a variable with a baseline, whose variables have longer names."""

RECORD_NAME_BYTES = 255


def _within(limit: int) -> Callable[[str], str]:
    def check(name: str) -> str:
        if not NAME_RULE.match(name):
            raise ValueError(f"{name[:limit]!r} is not a valid name")
        if len(name) > limit:
            raise ValueError(f"a name may have at most {limit} bytes, but this one has {len(name)}: {name[:20]}...")
        return name

    return check


def in_utc(moment: datetime) -> datetime:
    """A moment in UTC, which is also the zone of one without a zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _schema(limit: int, pattern: str = NAME_RULE.pattern) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "maxLength": limit})


Name = Annotated[str, AfterValidator(_within(NAME_BYTES)), _schema(NAME_BYTES)]
DescribedName = Annotated[str, AfterValidator(_within(DESCRIBED_NAME_BYTES)), _schema(DESCRIBED_NAME_BYTES)]
NameIfAny = Annotated[
    str,
    AfterValidator(lambda name: name and _within(NAME_BYTES)(name)),
    _schema(NAME_BYTES, f"^$|{NAME_RULE.pattern}"),
]
RecordName = Annotated[str, AfterValidator(_within(RECORD_NAME_BYTES))]
Moment = Annotated[datetime, AfterValidator(in_utc)]


class Value(BaseModel):
    """An immutable value without unknown fields. Infinity and NaN are strings in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def _is_default(default: Any) -> Callable[[Any], bool]:
    """For fields added later: omitted from JSON at their default, so that older documents keep their bytes."""
    return lambda value: bool(value == default)


class Variable(Value):
    """A quantity.

    Attributes:
        scale: physical value = stored * scale, in `unit`.
        palette: name of the palette for pictures.
    """

    name: Name
    dformat: DataFormat
    unit: str = ""
    description: str = ""
    bands: tuple[str, ...] = ("",)
    resampling: Resampling = "bilinear"
    scale: float = 1.0
    palette: str = Field(default="", exclude_if=_is_default(""))


class Instance(Value):
    """A version of a variable."""

    variable: Name
    name: Name
    metadata: dict[str, str] = {}


class Record(Value):
    """One acquisition, identified by its name, datetime and tags.

    Attributes:
        footprint: GeoJSON geometry in longitude and latitude; may be empty.
    """

    name: RecordName
    datetime: Moment
    tags: dict[str, str] = {}
    footprint: dict[str, Any]

    @property
    def id(self) -> str:
        """A UUID computed from name, datetime and tags, so a record has the same id in every cube.

        >>> from datetime import datetime
        >>> Record(name="S1A", datetime=datetime(2021, 1, 7), footprint={}).id
        '96e564c9-562d-57eb-96e2-ec1e734d55e4'
        """
        tags = "\n".join(f"{key}={value}" for key, value in sorted(self.tags.items()))
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"acd:record\n{self.name}\n{self.datetime.isoformat()}\n{tags}"))


class Dataset(Value):
    """One record x instance in a container.

    Attributes:
        uri: address of the container: a key below the cube's root; an absolute path, s3:// or file:// address outside
            the cube; or `geocube:` and the server's id of the record, if a server reads it.
        subdir: position in the container: empty for a GeoTIFF, the time index for a consolidated Zarr array.
        bands: band numbers in the container, from 1, in the order of the variable's bands.
        dformat: data format of the container; its range maps onto `real`.
        grid: grid of the container; if a server reads it, the grid of the requested tile.
        layout, cell: the tile, for a consolidated container or a product; empty otherwise.
        real: dformat.min and dformat.max in the variable's numbers; default: the variable's own range.
        exponent: a number v of the container means
            (real max - real min) * ((v - min) / (max - min)) ** exponent + real min, rounded if the variable has
            integers. Numbers outside the range are mapped too, but clipped first if the exponent is not 1, as in GDAL.
        exchanged: it replaced the datasets from which it was made (`LocalCube.exchange`), so it is read on all grids.
            Other tiles of a layout are only read where they have the requested pixels, or where their record has no
            other dataset.
        checksum: SHA-256 of the written file as a hexadecimal multihash; for a consolidated container, that of
            `zarr.json`. Readers verify the pixels of datasets with a checksum. Empty for files that acd did not write.
        version: 1, increased each time an ingest replaces the record's pixels.
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
        """Whether it is a tile of a layout, and may be a copy of its record's other datasets."""
        return bool(self.layout) and not self.exchanged

    @property
    def is_outside(self) -> bool:
        """Whether its container is outside the cube."""
        return self.uri.startswith(OUTSIDE)


class Slice(Value):
    """The datasets that form one image of a stack (`group_by date`). Where they overlap, the later one is on top."""

    label: str
    datasets: tuple[Dataset, ...]


class RecordQuery(Value):
    """A query for records. Records match if they meet the conditions of all fields that are set.

    Attributes:
        name: pattern with `*` and `?`; with `(?i)` at the end, case is ignored (`acdtask.cube.patterns`).
        tags: tags that a record must have. Values may be patterns; an empty one matches any value.
        start, end: first and last datetime, inclusive.
        area: GeoJSON geometry in longitude and latitude that the footprint must intersect.
        limit: maximum number of records; 0 for no limit.
        page: with a limit, the number of the page, from 0.
    """

    name: str = ""
    tags: dict[str, str] = {}
    start: Moment | None = None
    end: Moment | None = None
    area: dict[str, Any] | None = None
    limit: int = Field(default=0, ge=0)
    page: int = Field(default=0, ge=0)


class CubeRequest(Value):
    """A request for images of an instance on a grid, one for each group of records.

    Attributes:
        groups: ids of records. Where the records of a group overlap, the later one is on top.
        resampling: default: the variable's.
    """

    variable: Name
    instance: Name
    grid: Grid
    groups: tuple[tuple[str, ...], ...]
    resampling: Resampling | None = None


class Outcome(Enum):
    """Outcome of reading an image."""

    DATA = "data"
    NODATA = "no data"  # it has datasets, but no valid pixel
    ABSENT = "absent"  # it has no dataset
    FAILED = "failed"


@dataclass(frozen=True)
class Image:
    """An image of a request, or the reason why it has no pixels.

    Attributes:
        records: ids of its group, as requested.
        pixels: shape (height, width), or (bands, height, width) for variables of several bands; the variable's dtype.
            None unless the outcome is DATA.
        reason: why it failed; empty otherwise.
    """

    records: tuple[str, ...]
    outcome: Outcome
    pixels: Pixels | None = None
    reason: str = ""


@dataclass(frozen=True)
class Addition:
    """What a commit adds to a cube."""

    records: Sequence[Record] = ()
    datasets: Sequence[Dataset] = ()
    variables: Sequence[Variable] = ()
    instances: Sequence[Instance] = ()
    layouts: Sequence[Layout] = ()


class Cube(Protocol):
    """A cube: an index of records and datasets, and their pixels. All methods raise AcdError."""

    def commit(self, addition: Addition) -> bool:
        """Make an addition visible. What the cube already has stays unchanged.

        A local cube adds everything at once. Others add it in this order: variables, instances, layouts, records,
        datasets. After an interruption, the same commit adds the rest.

        Returns:
            Whether anything was new.

        Raises:
            AcdError: VARIABLE_CONFLICT, LAYOUT_CONFLICT, DATASET_CONFLICT, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, ...
        """

    def add_variable(self, variable: Variable) -> None:
        """Create a variable unless it exists. VARIABLE_CONFLICT if it exists and differs."""
        self.commit(Addition(variables=[variable]))

    def add_instance(self, instance: Instance) -> None:
        """Create an instance unless it exists. VARIABLE_UNKNOWN."""
        self.commit(Addition(instances=[instance]))

    def add_layout(self, layout: Layout) -> None:
        """Create a layout unless it exists. LAYOUT_CONFLICT if it exists and differs."""
        self.commit(Addition(layouts=[layout]))

    def variable(self, name: str) -> Variable:
        """The variable with a name. VARIABLE_UNKNOWN."""

    def variables(self) -> list[Variable]:
        """All variables, ordered by name."""

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, ordered by name. VARIABLE_UNKNOWN."""

    def layout(self, name: str) -> Layout:
        """The layout with a name. LAYOUT_UNKNOWN."""

    def layouts(self) -> list[Layout]:
        """All layouts, ordered by name."""

    def records(self, query: RecordQuery) -> list[Record]:
        """The records that match a query, ordered by datetime, name and id."""

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        """The datasets of an instance (of some records), ordered by record, layout, cell and uri.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """

    def index(self, records: list[Record], datasets: list[Dataset]) -> None:
        """Make records and datasets visible, as `commit` does. Known ones stay unchanged. DATASET_CONFLICT."""
        self.commit(Addition(records, datasets))

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset of the instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], grids: Sequence[Grid], layout: str = ""
    ) -> Iterator[list[Dataset]]:
        """For each grid, the datasets of the records to read, in the records' order, as input for `read`.

        The grid may be any, such as a tile grown by a margin: the margin has the same pixels as the neighbouring tiles.
        With a layout, only consolidated copies of this layout are used. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """The image of each group, or why it has none, in the order of the groups. Images are read lazily.

        An unreadable container only affects the outcome of its image. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """Read the pixels of each slice on a grid.

        Returns:
            Shape (slices, height, width), or (slices, bands, height, width) for variables of several bands; the
            variable's dtype; its nodata where no dataset has a valid pixel.

        Raises:
            AcdError: a container is unreadable.
        """

    def read_once(
        self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None
    ) -> Pixels:
        """Like `read`, for pixels that the run does not read again, so that they take no room in its cache."""
        return self.read(grid, slices, variable, resampling)
