"""Ids in Geocube's protocol: UUIDs computed from names, so that all servers of a cube use the same ids."""

from __future__ import annotations

import uuid

__all__ = ["instance_id", "variable_id"]


def variable_id(name: str) -> str:
    """The id of a variable.

    >>> variable_id("CoherenceVV")
    '5d4ed678-f6b2-507d-88a6-7f6a69a04377'
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"acd:variable\n{name}"))


def instance_id(variable: str, name: str) -> str:
    """The id of an instance of a variable.

    >>> instance_id("CoherenceVV", "master")
    '7df1ce41-cc06-5006-abbc-7d33386d2e86'
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"acd:instance\n{variable}\n{name}"))
