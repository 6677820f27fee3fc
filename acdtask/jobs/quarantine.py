"""What failed for good, as it is kept: the failure of a shard, what a gather leaves out, and what a product says."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from acdtask.errors import AcdError, ErrorCode

__all__ = ["Failure", "LeftOut", "PartlyFailedError", "QuarantinedTile"]

SAID_NOTHING = "no error was recorded"


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)


class Failure(_Kept):
    """Why something failed. `number` is that of the error, or 0 if a process ended without a word."""

    number: int = 0
    message: str = SAID_NOTHING
    fix: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What an error says; a bug says its type and its sentence.

        >>> str(Failure.of(ZeroDivisionError("division by zero")))
        'ACD-900: ZeroDivisionError: division by zero'
        """
        if isinstance(error, AcdError):
            return cls(number=error.code.value.number, message=error.detail, fix=error.fix)
        sentence = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        return cls(number=ErrorCode.BUG.value.number, message=sentence, fix=ErrorCode.BUG.value.fix)

    def __str__(self) -> str:
        return f"ACD-{self.number}: {self.message}" if self.number else self.message


class LeftOut(_Kept):
    """A shard that a gather went on without.

    Attributes:
        shard: its number.
        failure: why.
        names: what people call its tiles or files.
        parts: if only some of its units failed: those, by name. The others are in the shard's table.
    """

    shard: int
    failure: Failure
    names: tuple[str, ...] = ()
    parts: dict[str, Failure] = {}

    @property
    def units(self) -> int:
        """How many of its units are left out."""
        return len(self.parts) or len(self.names) or 1

    def __str__(self) -> str:
        names = [*self.parts] or self.names
        return f"{self.shard} ({', '.join(names)}): {self.failure}" if names else f"{self.shard}: {self.failure}"


class QuarantinedTile(_Kept):
    """A tile that a product should have and has not. `job` is the one that failed there."""

    cell: str
    job: str
    failure: Failure


class PartlyFailedError(AcdError):
    """Some units of a shard failed for good, and what the others came to is not lost.

    Args:
        error: the first of the failures.
        result: the shard's result, of the units that are good.
        parts: the failures, by what people call the unit.
    """

    def __init__(self, error: AcdError, result: BaseModel, parts: Mapping[str, Failure]) -> None:
        super().__init__(error.code, error.detail, error.fix)
        self.result = result
        self.parts = dict(parts)
