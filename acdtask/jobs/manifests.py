"""Stores the manifests of products, version by version, and finds and checks what they name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.fence import Fence, newest_number
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.storage.seal import seal, unseal
from acdtask.storage.store import Store
from acdtask.wording import known_names

__all__ = [
    "NumberedChain",
    "body_of",
    "damaged_result",
    "digest_of_file",
    "find_manifest",
    "is_latest",
    "latest_id",
    "manifest_chain",
    "point_latest",
    "read_product",
]

PUBLISH_ATTEMPTS = 50

LATEST = re.compile(r"products/(?P<aoi>.+?)/(?P<job>baseline|monitor|fuse)/(?P<name>.+)\.latest/\d+")
"""Matches the key of a pointer to the latest publication of a name."""


class NumberedChain:
    """A chain of versions of a JSON document, numbered from 1. Only one writer can add the next number.

    Each version is stored with its checksum.

    Args:
        store: store of the cube.
        aoi, job: names of the AOI and job.
        name: name of the document below these.
        ending: file name extension of the versions.
    """

    def __init__(self, store: Store, aoi: str, job: str, name: str, ending: str = "") -> None:
        self.scope = f"{aoi}/{job}/{name}"
        self._store = store.within(f"products/{self.scope}")
        self._ending = ending

    @property
    def folder(self) -> str:
        """Address of the folder with the versions."""
        return self._store.url

    def newest(self) -> tuple[int, bytes | None]:
        """Number and content of the newest version; 0 and None before the first. PRODUCT_DAMAGED."""
        number = newest_number(self._store)
        return (number, self.version(number)) if number else (0, None)

    def version(self, number: int) -> bytes | None:
        """The content of a version, or None. PRODUCT_DAMAGED."""
        data, address = self._store.find(self._key(number)), self._store.address_of(self._key(number))
        return None if data is None else unseal(data, address, ErrorCode.PRODUCT_DAMAGED, self._repair_hint)

    def publish(self, make: Callable[[bytes | None], bytes], fence: Fence, holds: Mapping[str, str]) -> None:
        """Add a version made from the newest one, unless it is the same.

        The content is announced first, and announcements of others are checked after the newest number is read. A plan
        that announces later therefore sees this version or takes its number, so an older plan never replaces results of
        a newer one.

        Raises:
            AcdError: PLAN_OVERTAKEN if a plan with a newer token announced another version of any name in `holds`;
                PRODUCT_DAMAGED, STORE_CONTENDED.
        """
        fence.announce(self.scope, holds)
        self._add(make, lambda: fence.require(self.scope, holds))

    def amend(self, make: Callable[[bytes | None], bytes]) -> None:
        """Add a version that only leaves out what is damaged. PRODUCT_DAMAGED, STORE_CONTENDED.

        It overtakes no plan: one that publishes later starts from it.
        """
        self._add(make, lambda: None)

    def _add(self, make: Callable[[bytes | None], bytes], require: Callable[[], None]) -> None:
        for _ in range(PUBLISH_ATTEMPTS):
            number, newest = self.newest()
            body = make(newest)
            if body == newest:
                return
            require()
            if self._store.create(self._key(number + 1), seal(body)):
                return
        raise AcdError(
            ErrorCode.STORE_CONTENDED, f"{self._store.url}: other writers were faster {PUBLISH_ATTEMPTS} times"
        )

    def require(self, fence: Fence, holds: Mapping[str, str]) -> None:
        """Fail before writing anything if a newer plan is already known. PLAN_OVERTAKEN."""
        fence.require(self.scope, holds)

    @property
    def _repair_hint(self) -> str:
        return f"Restore it from a backup, or delete the folder {self.folder} and rerun the job that wrote it."

    def _key(self, number: int) -> str:
        return f"{number:06d}{self._ending}"


def body_of(manifest: BaselineManifest | MonitorManifest, earlier: bytes | None) -> bytes:
    """Encode a manifest. If it differs from the earlier version only in the version of acd, that is returned."""
    if earlier is not None:
        known = type(manifest).model_validate_json(earlier)
        if manifest.model_copy(update={"version": known.version}) == known:
            return earlier
    return manifest.model_dump_json(indent=1).encode()


def manifest_chain(store: Store, aoi: str, job: str, content_id: str) -> NumberedChain:
    """The versions of a product's manifest."""
    return NumberedChain(store, aoi, job, f"{content_id}/manifests", ".json")


def point_latest(store: Store, aoi: str, job: str, name: str, content_id: str, fence: Fence) -> None:
    """Make a content id the `latest` of a name (such as variable and layout), unless a newer plan has set it."""
    try:
        body = json.dumps({"latest": content_id}).encode()
        _pointer(store, aoi, job, name).publish(lambda _: body, fence, {"latest": content_id})
    except AcdError as error:
        if error.code is not ErrorCode.PLAN_OVERTAKEN:
            raise


def is_latest(store: Store, aoi: str, job: str, name: str, content_id: str) -> bool:
    """Whether a content id is the `latest` of a name. PRODUCT_DAMAGED."""
    return latest_id(store, aoi, job, name) == content_id


def latest_id(store: Store, aoi: str, job: str, name: str) -> str:
    """The content id that is the `latest` of a name; empty if nothing was published. PRODUCT_DAMAGED."""
    body = _pointer(store, aoi, job, name).newest()[1]
    return str(json.loads(body)["latest"]) if body else ""


def _pointer(store: Store, aoi: str, job: str, name: str) -> NumberedChain:
    return NumberedChain(store, aoi, job, f"{name}.latest")


def find_manifest(
    store: Store, aoi: str, job: str, name: str, content_id: str, missing: ErrorCode, version: int = 0
) -> tuple[int, bytes]:
    """Find a manifest; returns its version and content. The content id `latest` means the latest publication of a name.

    Version 0 means the newest one. Raises the error `missing` if there is none, and PRODUCT_DAMAGED.
    """
    latest = content_id == "latest"
    wanted_id = latest_id(store, aoi, job, name) if latest else content_id
    if wanted_id:
        chain = manifest_chain(store, aoi, job, wanted_id)
        number, body = (version, chain.version(version)) if version else chain.newest()
        if body is not None:
            return number, body
    wanted = f"{job} of {name}" if latest else f"{job} {content_id}"
    raise AcdError(missing, f"the AOI {aoi} has no {wanted} at {store.url}{_known_results(store, aoi, job, name)}")


def _known_results(store: Store, aoi: str, job: str, name: str) -> str:
    """Alternatives to a missing result: other results of the AOI, or AOIs that have results."""
    matches = [LATEST.fullmatch(key) for key in store.list("products")]
    pointers = [(match["aoi"], match["name"]) for match in matches if match and match["job"] == job]
    if names := [other for area, other in pointers if area == aoi]:
        return known_names(name, names, what="it has")
    return known_names(aoi, (area for area, _ in pointers), what=f"AOIs with a {job} are") if pointers else ""


def digest_of_file(data: bytes) -> str:
    """The digest of a product's file as in its manifest: SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_product(store: Store, key: str, digest: str) -> bytes:
    """Read a file of an image's product and check its digest. PRODUCT_DAMAGED."""
    data = store.find(key)
    if data is None or digest_of_file(data) != digest:
        state = "missing" if data is None else "damaged"
        raise damaged_result(store, key, f"{store.address_of(key)} is {state}")
    return data


def damaged_result(store: Store, key: str, detail: str) -> AcdError:
    """The error PRODUCT_DAMAGED for a file of a monitoring result, with advice on how to recreate it."""
    manifests = store.address_of("/".join([*key.split("/")[:4], "manifests"]))
    return AcdError(
        ErrorCode.PRODUCT_DAMAGED,
        detail,
        f"Restore it from a backup, or delete the folder {manifests} and rerun the monitor: it judges the images again,"
        " with the same result.",
    )
