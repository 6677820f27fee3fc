"""Whether everything that a cube names is there."""

from __future__ import annotations

import json
import re
from typing import Any

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.index import Index
from acdtask.maintenance.references import names_of_manifest
from acdtask.storage.store import Store

__all__ = ["missing_names", "texts"]

CHAIN = re.compile(r"products/.+/(manifests|editions)/\d{6}\.json")


def missing_names(store: Store) -> list[str]:
    """Keys that a head or a manifest of a cube names and that are not there."""
    keys = store.list()
    present = set(keys) | {key[:end] for key in keys for end in range(len(key)) if key[end] == "/"}
    index, named = Index(store), set[str]()
    for key in store.list("index/heads"):
        head = index.numbered(int(key[-13:-5]))
        assert head is not None
        named |= {ref.key for ref in head.segments}
        for ref in head.datasets:
            named |= Index(store).uris(ref)
    for key in filter(CHAIN.fullmatch, keys):
        named |= names_of_manifest(store, key)
    assert not named or LocalCube.open(store.url).variables()
    return sorted(named - present)


def texts(value: Any) -> str:
    """A JSON value as text, for comparison."""
    return json.dumps(value, sort_keys=True)
