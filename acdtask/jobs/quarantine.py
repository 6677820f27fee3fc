"""Records of permanent failures: of an input or shard, of what a gather leaves out, and in a product."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from acdtask.errors import AcdError, ErrorCode

__all__ = ["Failure", "LeftOut", "PartlyFailedError", "QuarantinedTile"]

NO_ERROR_RECORDED = "no error was recorded"


class Failure(BaseModel, frozen=True):
    """Cause of a failure. `number` is the number of the error, or 0 if a process ended without one."""

    number: int = 0
    message: str = NO_ERROR_RECORDED
    fix: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The record of an error. For a bug, the message has the exception's type and text.

        >>> str(Failure.of(ZeroDivisionError("division by zero")))
        'ACD-900: ZeroDivisionError: division by zero'
        """
        if isinstance(error, AcdError):
            return cls(number=error.code.value.number, message=error.detail, fix=error.fix)
        sentence = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        return cls(number=ErrorCode.BUG.value.number, message=sentence, fix=ErrorCode.BUG.value.fix)

    def __str__(self) -> str:
        return f"ACD-{self.number}: {self.message}" if self.number else self.message


class LeftOut(BaseModel, frozen=True):
    """A shard that a gather left out.

    Attributes:
        shard: number of the shard.
        failure: cause.
        names: names of its tiles or files, for messages.
        parts: failures by unit name, if only some units failed. The others are in the shard's table.
    """

    shard: int
    failure: Failure
    names: tuple[str, ...] = ()
    parts: dict[str, Failure] = {}

    @property
    def units(self) -> int:
        """Number of units left out."""
        return len(self.parts) or len(self.names) or 1

    def __str__(self) -> str:
        names = [*self.parts] or self.names
        return f"{self.shard} ({', '.join(names)}): {self.failure}" if names else f"{self.shard}: {self.failure}"


class QuarantinedTile(BaseModel, frozen=True):
    """A tile that a product lacks. `job` is the job that failed there."""

    cell: str
    job: str
    failure: Failure


class PartlyFailedError(AcdError):
    """Raised if some units of a shard failed permanently, to keep the result of the others.

    `error` is the first failure, `result` that of the shard's good units, `parts` are the failures by unit name.
    """

    def __init__(self, error: AcdError, result: BaseModel, parts: Mapping[str, Failure]) -> None:
        super().__init__(error.code, error.detail, error.fix)
        self.result = result
        self.parts = dict(parts)
