"""What rounds pass on: pydantic models with arrays, as bytes or as files in the scratch. Equal values give equal bytes.

A ZIP file without timestamps. Entry `value` is the model as JSON with sorted keys; arrays are entries named by number.
Keys in the scratch contain a digest of the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
import zlib
from functools import lru_cache
from typing import Any, Generic, TypeVar, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import core_schema

from acdtask.change.packing import pack_rows, unpack_rows
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.store import Store

__all__ = ["ArrayOf", "DataclassOfArrays", "Packed", "decode", "document_in", "encode", "leave_scratch", "read_scratch"]

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)

VALUE = "value"
_EPOCH = (1980, 1, 1, 0, 0, 0)
SCRATCH_ENDING = ".zip"


def encode(value: Any, kind: Any) -> bytes:
    """Encode a value.

    `kind` is its type, known to pydantic, with arrays annotated with `ArrayOf`.

    Raises:
        TypeError: the value is a model of another type.

    >>> from typing import Annotated
    >>> from pydantic import BaseModel
    >>> class Counts(BaseModel):
    ...     label: str
    ...     pixels: Annotated[NDArray[np.int32], ArrayOf("<i4")]
    >>> data = encode(Counts(label="a", pixels=np.arange(3, dtype="<i4")), Counts)
    >>> decode(data, Counts).pixels.tolist()
    [0, 1, 2]
    """
    if isinstance(kind, type) and not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    arrays: list[NDArray[Any]] = []
    plain = _adapter(kind).dump_python(value, mode="json", context=arrays)
    document = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr(zipfile.ZipInfo(VALUE, _EPOCH), document, zipfile.ZIP_DEFLATED)
        for number, array in enumerate(arrays):
            _write_array(bundle, str(number), array)
    return buffer.getvalue()


def decode(data: bytes, kind: type[T]) -> T:
    """Decode what `encode` returned. ValueError if it is not of that type."""
    adapter_of: Any = _adapter
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            value: T = adapter_of(kind).validate_json(bundle.read(VALUE), context=bundle)
            return value
    except (ValidationError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise ValueError(f"not a valid {getattr(kind, '__name__', kind)}: {error}") from error


def document_in(data: bytes) -> bytes:
    """The JSON of an encoded value, without knowing its type. ValueError.

    >>> from pydantic import BaseModel
    >>> class Named(BaseModel):
    ...     key: str
    >>> document_in(encode(Named(key="a/b.tif"), Named))
    b'{"key":"a/b.tif"}'
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            return bundle.read(VALUE)
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise ValueError(f"not an encoded value: {error}") from error


def leave_scratch(scratch: Store, name: str, value: BaseModel) -> str:
    """Store a value and return its key. The key contains a digest, so a late duplicate replaces nothing newer."""
    body = encode(value, type(value))
    key = f"{name}-{_digest(body)}{SCRATCH_ENDING}"
    scratch.put(key, body)
    return key


def read_scratch(scratch: Store, key: str, kind: type[ModelT]) -> ModelT:
    """Read a value stored by `leave_scratch`. RUN_DAMAGED."""
    body = scratch.find(key)
    if body is None or not key.endswith(f"-{_digest(body)}{SCRATCH_ENDING}"):
        raise AcdError(
            ErrorCode.RUN_DAMAGED,
            f"{scratch.address_of(key)} is {'missing' if body is None else 'damaged'}",
            f"Delete the folder {scratch.url.rpartition('/')[0]} and run the job again; it then starts over.",
        )
    return decode(body, kind)


class ArrayOf:
    """Annotates an array: `Annotated[NDArray[np.int32], ArrayOf("<i4")]`. Only `encode` can serialise it.

    Args:
        dtype: required data type; None accepts any.
        dimensions: required number of dimensions; None accepts any.
    """

    def __init__(self, dtype: DTypeLike | None, dimensions: int | None = 1) -> None:
        self._dtype, self._dimensions = None if dtype is None else np.dtype(dtype), dimensions

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Tell pydantic how to validate and serialise it."""
        return core_schema.with_info_plain_validator_function(
            self._validated,
            serialization=core_schema.plain_serializer_function_ser_schema(_put, info_arg=True),
        )

    def _validated(self, value: Any, info: core_schema.ValidationInfo) -> NDArray[Any]:
        array = _taken(value, info)
        if not isinstance(array, np.ndarray):
            raise ValueError(f"expected an array, got {type(array).__name__}")  # noqa: TRY004  # what pydantic reports
        if self._dtype not in (None, array.dtype) or self._dimensions not in (None, array.ndim):
            raise ValueError(f"expected {self._dimensions} x {self._dtype}, got {array.ndim} x {array.dtype}")
        return array


class DataclassOfArrays:
    """Annotates a dataclass of arrays, numbers and tuples of numbers: `Annotated[FragmentTable, DataclassOfArrays()]`.

    With it, the science need not know how its tables are encoded.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Tell pydantic how to validate and serialise it."""

        def validated(value: Any, info: core_schema.ValidationInfo) -> Any:
            if isinstance(value, source):
                return value
            if not isinstance(value, dict):
                raise ValueError(f"expected {source.__name__}, got {type(value).__name__}")  # noqa: TRY004  # pydantic's
            fields = {name: _field(entry, info) for name, entry in value.items()}
            return source(**fields)

        def plain(value: Any, info: core_schema.SerializationInfo) -> dict[str, Any]:
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return {
                name: {"array": _put(entry, info)} if isinstance(entry, np.ndarray) else entry
                for name, entry in fields.items()
            }

        return core_schema.with_info_plain_validator_function(
            validated, serialization=core_schema.plain_serializer_function_ser_schema(plain, info_arg=True)
        )


class Packed(Generic[T]):
    """A value that stays encoded in memory until opened, so that a gather of many holds few decoded at a time."""

    def __init__(self, data: bytes, kind: Any) -> None:
        self._data, self._kind = data, kind

    @classmethod
    def of(cls, value: T, kind: Any = None) -> Packed[T]:
        """Encode a value. `kind` is its type, if not its class."""
        kind = kind or type(value)
        return cls(encode(value, kind), kind)

    def open(self) -> T:
        """Decode the value."""
        value: T = decode(self._data, self._kind)
        return value

    @property
    def data(self) -> bytes:
        """The encoded bytes, equal for equal values."""
        return self._data

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Tell pydantic how to validate and serialise it."""
        (kind,) = get_args(source)

        def validated(value: Any, info: core_schema.ValidationInfo) -> Packed[Any]:
            return value if isinstance(value, Packed) else cls(_taken(value, info).tobytes(), kind)

        def plain(value: Packed[Any], info: core_schema.SerializationInfo) -> int:
            return _put(np.frombuffer(value.data, np.uint8), info)

        return core_schema.with_info_plain_validator_function(
            validated, serialization=core_schema.plain_serializer_function_ser_schema(plain, info_arg=True)
        )


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _put(array: NDArray[Any], info: core_schema.SerializationInfo) -> int:
    """Store an array beside the JSON and return its number."""
    arrays: Any = info.context
    if not isinstance(arrays, list):
        raise TypeError("arrays are not JSON; use acdtask.jobs.codec to encode them")
    arrays.append(array)
    return len(arrays) - 1


def _taken(value: Any, info: core_schema.ValidationInfo) -> Any:
    """The array with a number; anything else is returned unchanged."""
    bundle: Any = info.context
    if isinstance(value, int) and isinstance(bundle, zipfile.ZipFile):
        return _read_array(bundle, str(value))
    return value


def _field(entry: Any, info: core_schema.ValidationInfo) -> Any:
    if isinstance(entry, dict):
        return _taken(entry["array"], info)
    return tuple(entry) if isinstance(entry, list) else entry


def _write_array(bundle: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    """Write an array as .npy. Structured rows are transposed to bytes (`pack_rows`), which compresses far better."""
    is_structured = array.dtype.names is not None
    buffer = io.BytesIO()
    np.save(buffer, pack_rows(np.ascontiguousarray(array)) if is_structured else array, allow_pickle=False)
    bundle.writestr(zipfile.ZipInfo(name, _EPOCH), buffer.getvalue(), zipfile.ZIP_DEFLATED)
    if is_structured:
        bundle.writestr(zipfile.ZipInfo(f"{name}.rows", _EPOCH), json.dumps(array.dtype.descr).encode())


def _read_array(bundle: zipfile.ZipFile, name: str) -> NDArray[Any]:
    array = np.asarray(np.load(io.BytesIO(bundle.read(name)), allow_pickle=False))
    if f"{name}.rows" not in bundle.namelist():
        return array
    dtype = np.dtype([(field, kind) for field, kind in json.loads(bundle.read(f"{name}.rows"))])
    return unpack_rows(array, dtype)
