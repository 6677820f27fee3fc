"""Verification of a cube: checks files, and reports damage and how to repair it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from acdtask.cube.local.cube import LocalCube
from acdtask.errors import AcdError, ErrorCode
from acdtask.maintenance.verify.check import CheckResult, Fault, check_files
from acdtask.maintenance.verify.files import NamedFile
from acdtask.maintenance.verify.repair import Repair, forget_products, repair_of

__all__ = ["Verification", "verify_files"]

FILES_SHOWN = 10


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        address: the cube's address.
        checked: counts and faults of the files.
        repairs: how to recreate each damaged file, in the order of `checked.faults`.
        forgotten: keys of damaged files whose products were removed from the index, so that their jobs recreate them.
    """

    address: str
    checked: CheckResult
    repairs: list[Repair] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """The commands to run, in order."""
        forget = any(repair.after_forget for repair in self.repairs) and not self.forgotten
        images = [repair.command for repair in self.repairs if not repair.after_forget and repair.command]
        products = [repair.command for repair in self.repairs if repair.after_forget]
        first = [f"acdtask verify --cube {self.address} --forget"] if forget else []
        return list(dict.fromkeys([*images, *first, *products]))

    def as_json(self) -> dict[str, Any]:
        """The verification as JSON values."""
        checked = self.checked
        faults = zip(checked.faults, self.repairs, strict=True)
        return {
            "cube": self.address,
            "intact": checked.intact,
            "not_checked": checked.not_checked,
            "bytes": checked.bytes_read,
            "faults": [_fault_as_json(fault, repair) for fault, repair in faults],
            "forgotten": self.forgotten,
            "commands": self.commands,
        }

    def require_intact(self) -> None:
        """Require that no file in the index is damaged. FILES_DAMAGED."""
        faults = [fault for fault in self.checked.faults if fault.file.key not in self.forgotten]
        if not faults:
            return
        named = ", ".join(f"{fault.file.key} ({fault.verdict})" for fault in faults[:FILES_SHOWN])
        more = f" and {len(faults) - FILES_SHOWN} more" if len(faults) > FILES_SHOWN else ""
        total = self.checked.intact + self.checked.not_checked + len(self.checked.faults)
        raise AcdError(
            ErrorCode.FILES_DAMAGED, f"{len(faults)} of {total} files of {self.address} are damaged: {named}{more}"
        )


def verify_files(
    cube: LocalCube,
    files: Sequence[NamedFile],
    *,
    forget: bool = False,
    progress: Callable[[int], None] = lambda _done: None,
) -> Verification:
    """Check the files that a cube names (`named_files`), and find out how to recreate damaged ones.

    With `forget`, damaged products are removed from the index, so that their jobs recreate them. `progress` gets the
    number of files done so far. STORE_CONTENDED, or the store's errors.
    """
    checked = check_files(cube.store, files, progress)
    repairs = [repair_of(fault, cube) for fault in checked.faults]
    forgotten = forget_products(checked.faults, cube) if forget else []
    return Verification(cube.store.url, checked, repairs, forgotten)


def _fault_as_json(fault: Fault, repair: Repair) -> dict[str, Any]:
    return {
        "file": fault.file.key,
        "kind": fault.file.kind,
        "fault": fault.verdict,
        "detail": fault.detail,
        **asdict(repair),
    }
