"""Reads stac-geoparquet: STAC items as rows of a GeoParquet file, with their properties as columns."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from acdtask.cube.model import in_utc
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.geoparquet import read_table

__all__ = ["items_of_parquet"]

FIELDS_OF_AN_ITEM = frozenset(
    {"type", "stac_version", "stac_extensions", "id", "links", "bbox", "geometry", "assets", "collection"}
)
"""Columns that are fields of an item; all others are properties.

Source: the stac-geoparquet specification, https://github.com/stac-utils/stac-geoparquet/blob/main/spec/stac-geoparquet-spec.md
"""


def items_of_parquet(data: bytes, address: str) -> list[dict[str, Any]]:
    """Read the items, without geometries and links. STAC_INVALID if the file is not stac-geoparquet."""
    try:
        table = read_table(data)
    except ValueError as error:
        raise AcdError(ErrorCode.STAC_INVALID, f"{address} cannot be read: {error}") from error
    wanted = [name for name in table.column_names if name not in ("links", "bbox", "geometry")]
    columns = {name: table[name].to_pylist() for name in wanted}
    if missing := sorted({"id", "assets"} - columns.keys()):
        raise AcdError(ErrorCode.STAC_INVALID, f"{address} has no column {' and no column '.join(missing)}")
    return [_item({name: values[row] for name, values in columns.items()}) for row in range(table.num_rows)]


def _item(row: dict[str, Any]) -> dict[str, Any]:
    properties = {name: _plain(value) for name, value in row.items() if name not in FIELDS_OF_AN_ITEM}
    assets = row["assets"] if isinstance(row["assets"], dict) else {}
    return {
        "type": "Feature",
        "id": row["id"],
        "properties": {name: value for name, value in properties.items() if value is not None},
        "assets": {
            name: {key: value for key, value in asset.items() if value is not None}
            for name, asset in assets.items()
            if isinstance(asset, dict) and asset.get("href")
        },
    }


def _plain(value: Any) -> Any:
    """A timestamp as a string in UTC; other values are unchanged."""
    if isinstance(value, datetime):
        return in_utc(value).isoformat()
    return value
