"""The one encoding of what rounds hand to each other: pydantic models with arrays, the same bytes for the same value.

A ZIP without times: `value`, the model as JSON with sorted keys, and an entry for each array that it names by number.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
import zlib
from functools import lru_cache
from typing import Any, Generic, TypeVar, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import core_schema

from acdtask.change.packing import pack_rows, unpack_rows

__all__ = ["ArrayOf", "DataclassOfArrays", "Packed", "decode", "document_in", "encode"]

T = TypeVar("T")

VALUE = "value"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def encode(value: Any, kind: Any) -> bytes:
    """The bytes of a value.

    Args:
        value: of that type.
        kind: a type that pydantic knows, whose arrays are annotated with `ArrayOf`.

    Raises:
        TypeError: it is a model of another type.

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
        raise TypeError(f"{type(value).__name__} where {kind.__name__} is due")
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
    """The value that `encode` was given. ValueError if it is none of that type."""
    adapter_of: Any = _adapter
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            value: T = adapter_of(kind).validate_json(bundle.read(VALUE), context=bundle)
            return value
    except (ValidationError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise ValueError(f"no {getattr(kind, '__name__', kind)}: {error}") from error


def document_in(data: bytes) -> bytes:
    """The JSON of an encoded value, for those who look for names in it and do not know its type. ValueError.

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
        raise ValueError(f"nothing that was encoded: {error}") from error


class ArrayOf:
    """Annotates an array: `Annotated[NDArray[np.int32], ArrayOf("<i4")]`. Only `encode` can serialise it.

    Args:
        dtype: of the array; another one is refused. None for any.
        dimensions: how many it has; None for any number.
    """

    def __init__(self, dtype: DTypeLike | None, dimensions: int | None = 1) -> None:
        self._dtype, self._dimensions = None if dtype is None else np.dtype(dtype), dimensions

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """How pydantic validates and serialises it."""
        return core_schema.with_info_plain_validator_function(
            self._validated,
            serialization=core_schema.plain_serializer_function_ser_schema(_put, info_arg=True),
        )

    def _validated(self, value: Any, info: core_schema.ValidationInfo) -> NDArray[Any]:
        array = _taken(value, info)
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{type(array).__name__} where an array is due")  # noqa: TRY004  # what pydantic reports
        if self._dtype not in (None, array.dtype) or self._dimensions not in (None, array.ndim):
            raise ValueError(f"{array.ndim} x {array.dtype} where {self._dimensions} x {self._dtype} is due")
        return array


class DataclassOfArrays:
    """Annotates a dataclass of arrays, numbers and tuples of numbers: `Annotated[FragmentTable, DataclassOfArrays()]`.

    So the science needs to know nothing of how its tables travel.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """How pydantic validates and serialises it."""

        def validated(value: Any, info: core_schema.ValidationInfo) -> Any:
            if isinstance(value, source):
                return value
            if not isinstance(value, dict):
                raise ValueError(f"{type(value).__name__} where {source.__name__} is due")  # noqa: TRY004  # pydantic's
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
    """A value that stays encoded in memory until it is opened: a gather that joins many holds few of them decoded."""

    def __init__(self, data: bytes, kind: Any) -> None:
        self._data, self._kind = data, kind

    @classmethod
    def of(cls, value: T, kind: Any = None) -> Packed[T]:
        """A value, encoded. `kind` is its type, if its class does not say it."""
        kind = kind or type(value)
        return cls(encode(value, kind), kind)

    def open(self) -> T:
        """The value."""
        value: T = decode(self._data, self._kind)
        return value

    @property
    def data(self) -> bytes:
        """Its bytes: the same for the same value."""
        return self._data

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """How pydantic validates and serialises it."""
        (kind,) = get_args(source)

        def validated(value: Any, info: core_schema.ValidationInfo) -> Packed[Any]:
            return value if isinstance(value, Packed) else cls(_taken(value, info).tobytes(), kind)

        def plain(value: Packed[Any], info: core_schema.SerializationInfo) -> int:
            return _put(np.frombuffer(value.data, np.uint8), info)

        return core_schema.with_info_plain_validator_function(
            validated, serialization=core_schema.plain_serializer_function_ser_schema(plain, info_arg=True)
        )


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _put(array: NDArray[Any], info: core_schema.SerializationInfo) -> int:
    """Lay an array beside the JSON, and say its number."""
    arrays: Any = info.context
    if not isinstance(arrays, list):
        raise TypeError("an array is no JSON: acdtask.jobs.codec encodes it")
    arrays.append(array)
    return len(arrays) - 1


def _taken(value: Any, info: core_schema.ValidationInfo) -> Any:
    """The array of a number; what is no number is the array itself."""
    bundle: Any = info.context
    if isinstance(value, int) and isinstance(bundle, zipfile.ZipFile):
        return _read_array(bundle, str(value))
    return value


def _field(entry: Any, info: core_schema.ValidationInfo) -> Any:
    if isinstance(entry, dict):
        return _taken(entry["array"], info)
    return tuple(entry) if isinstance(entry, list) else entry


def _write_array(bundle: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    """As .npy; rows of several fields by the bytes of a row: equal bytes side by side compress several times better."""
    rows = array.dtype.names is not None
    buffer = io.BytesIO()
    np.save(buffer, pack_rows(np.ascontiguousarray(array)) if rows else array, allow_pickle=False)
    bundle.writestr(zipfile.ZipInfo(name, _EPOCH), buffer.getvalue(), zipfile.ZIP_DEFLATED)
    if rows:
        bundle.writestr(zipfile.ZipInfo(f"{name}.rows", _EPOCH), json.dumps(array.dtype.descr).encode())


def _read_array(bundle: zipfile.ZipFile, name: str) -> NDArray[Any]:
    array = np.asarray(np.load(io.BytesIO(bundle.read(name)), allow_pickle=False))
    if f"{name}.rows" not in bundle.namelist():
        return array
    dtype = np.dtype([(field, kind) for field, kind in json.loads(bundle.read(f"{name}.rows"))])
    return unpack_rows(array, dtype)
