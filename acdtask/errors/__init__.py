"""Errors that the user can act on; their codes are in `acdtask.errors.codes`."""

from __future__ import annotations

from acdtask.errors.codes import ErrorCode, ErrorSpec, ExitStatus

__all__ = ["AcdError", "ErrorCode", "ErrorSpec", "ExitStatus"]


class AcdError(Exception):
    """An error that the user can act on.

    Args:
        code: the kind of error.
        detail: one sentence that names the file, record or setting at fault.
        fix: a more specific fix than the default of `code`.

    >>> print(AcdError(ErrorCode.AOI_EMPTY, "koln.json has no polygon"))
    ACD-111: koln.json has no polygon. Draw at least one polygon with an area.
    """

    def __init__(self, code: ErrorCode, detail: str, fix: str | None = None) -> None:
        self.code = code
        self.detail = detail.rstrip(".")
        self.fix = fix or code.value.fix
        super().__init__(code, detail, fix)

    def __str__(self) -> str:
        return f"{self.code.label}: {self.detail}. {self.fix}"

    def __reduce__(self) -> tuple[type[AcdError], tuple[ErrorCode, str, str]]:
        return type(self), (self.code, self.detail, self.fix)
