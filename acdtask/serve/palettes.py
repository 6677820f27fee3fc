"""Palettes: the colours of pictures of a variable, stored in the cube."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from acdtask.cube.model import Name
from acdtask.errors import ErrorCode
from acdtask.storage.seal import parse_sealed, seal
from acdtask.storage.store import Store

__all__ = ["Colour", "Palette", "Palettes"]

Channel = Annotated[int, Field(ge=0, le=255)]


class Colour(BaseModel):
    """The colour of a value between 0 and 1: red, green, blue and opacity, 0..255."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(ge=0, le=1)
    r: Channel
    g: Channel
    b: Channel
    a: Channel


def _ramp(colours: tuple[Colour, ...]) -> tuple[Colour, ...]:
    ordered = tuple(sorted(colours, key=lambda colour: colour.value))
    values = [colour.value for colour in ordered]
    if len(ordered) < 2 or len(set(values)) < len(values) or values[0] != 0 or values[-1] != 1:
        raise ValueError("a palette needs at least two different values, the first 0 and the last 1")
    return ordered


class Palette(BaseModel):
    """Colours from value 0 to value 1, interpolated linearly between its points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    colours: Annotated[tuple[Colour, ...], AfterValidator(_ramp)]


class Palettes:
    """The palettes of a cube, referred to by variables by name. Every method raises the store's errors."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, palette: Palette, *, replace: bool = False) -> bool:
        """Store the palette. False if a different one has the name, which only `replace` overwrites."""
        key, data = _palette_key(palette.name), seal(palette.model_dump_json().encode())
        if replace:
            self._store.put(key, data)
            return True
        return self._store.create(key, data) or self.find(palette.name) == palette

    def find(self, name: str) -> Palette | None:
        """The palette of that name, or None. CUBE_DAMAGED."""
        data = self._store.find(_palette_key(name))
        if data is None:
            return None
        address = self._store.address_of(_palette_key(name))
        return parse_sealed(
            Palette, data, address, ErrorCode.CUBE_DAMAGED, "Delete the file and create the palette again."
        )


def _palette_key(name: str) -> str:
    return f"palettes/{name}.json"
