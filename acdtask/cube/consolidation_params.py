"""How the consolidated containers of a variable are written, kept beside the index."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from acdtask.cube.model import Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat, Resampling
from acdtask.storage.seal import parse_sealed, seal
from acdtask.storage.store import Store

__all__ = ["Compression", "ConsolidationParams", "StorageClass", "find_params", "keep_params", "stored_as"]

Compression = Literal["NO", "LOSSLESS", "LOSSY", "CUSTOM"]
StorageClass = Literal["STANDARD", "INFREQUENT", "ARCHIVE", "DEEPARCHIVE"]


class ConsolidationParams(BaseModel):
    """How consolidated containers of a variable are written; Geocube's fields.

    `dformat` and `resampling` decide what is in a container. The others are kept and handed back, and change nothing:
    containers are Zarr arrays, always compressed without loss, of the store's own class, with no overviews.

    Attributes:
        dformat: how numbers are kept; its range maps linearly onto the variable's. Default: as the variable's.
        exponent: of the mapping; only 1 can be.
        resampling: where a source has other pixels than the layout. Default: the variable's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    dformat: DataFormat | None = None
    exponent: float = 1.0
    resampling: Resampling | None = None
    compression: Compression = "NO"
    creation_params: dict[str, str] = Field(default={})
    storage_class: StorageClass = "STANDARD"
    create_overviews: bool = False
    bands_interleave: bool = False


def stored_as(variable: Variable, params: ConsolidationParams) -> DataFormat:
    """The format of consolidated containers. SETTING_INVALID if they cannot be kept as the parameters say."""
    if params.exponent != 1:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"consolidated {variable.name} cannot have the exponent {params.exponent:g}",
            "Use the exponent 1: numbers of a container map linearly onto those of the variable.",
        )
    if params.compression == "CUSTOM" and "COMPRESS" not in params.creation_params:
        raise AcdError(
            ErrorCode.SETTING_INVALID, "the compression CUSTOM of a consolidation has no COMPRESS in creation_params"
        )
    return params.dformat or variable.dformat


def keep_params(store: Store, variable: Variable, params: ConsolidationParams) -> None:
    """Let these be the parameters of a variable; jobs that were started before keep theirs. SETTING_INVALID."""
    stored_as(variable, params)
    store.put(_key(variable.name), seal(params.model_dump_json().encode()))


def find_params(store: Store, variable: str) -> ConsolidationParams | None:
    """The parameters of a variable, or None if none were set. CUBE_DAMAGED."""
    data = store.find(_key(variable))
    if data is None:
        return None
    fix = "Delete the file and set the parameters again."
    return parse_sealed(ConsolidationParams, data, store.address_of(_key(variable)), ErrorCode.CUBE_DAMAGED, fix)


def _key(variable: str) -> str:
    return f"consolidation/{variable}.json"
