"""Verify a cube: look at every file, and say what is damaged and how it is made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from acdtask.cube.local.cube import LocalCube
from acdtask.errors import AcdError, ErrorCode
from acdtask.maintenance.verify.check import Checked, Fault, check_files
from acdtask.maintenance.verify.files import NamedFile
from acdtask.maintenance.verify.repair import Repair, forget_products, repair_of

__all__ = ["Verification", "verify_files"]

NAMED_AT_MOST = 10


@dataclass(frozen=True)
class Verification:
    """What a verification found.

    Attributes:
        address: of the cube.
        checked: the files.
        repairs: how to make each damaged file again, in the order of `checked.faults`.
        forgotten: keys of damaged files whose products the index has forgotten, so that their jobs make them again.
    """

    address: str
    checked: Checked
    repairs: list[Repair] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """What to run, in order."""
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
        """FILES_DAMAGED if something is damaged that the index has not forgotten."""
        faults = [fault for fault in self.checked.faults if fault.file.key not in self.forgotten]
        if not faults:
            return
        named = ", ".join(f"{fault.file.key} ({fault.verdict})" for fault in faults[:NAMED_AT_MOST])
        more = f" and {len(faults) - NAMED_AT_MOST} more" if len(faults) > NAMED_AT_MOST else ""
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
    """Read files that the cube names, and find out how damaged ones are made again.

    Args:
        cube: the cube.
        files: what `named_files` gives.
        forget: take damaged products out of the index, so that their jobs make them again.
        progress: called with the number of files done so far.

    Raises:
        AcdError: STORE_CONTENDED, or what Store raises.
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
