"""Records of permanent failures: of an input or shard, of what a gather leaves out, and in a product."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from acdtask.errors import AcdError, ErrorCode

__all__ = ["Failure", "LeftOut", "QuarantinedTile", "UnusableInputsError", "unusable_of"]

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

    def as_error(self) -> AcdError:
        """The error that was recorded; a bug if there was none."""
        code = next((code for code in ErrorCode if code.value.number == self.number), ErrorCode.BUG)
        return AcdError(code, self.message, self.fix or None)

    def __str__(self) -> str:
        return f"ACD-{self.number}: {self.message}" if self.number else self.message


class LeftOut(BaseModel, frozen=True):
    """A shard that a gather left out, or whose result lacks some inputs.

    Attributes:
        shard: number of the shard.
        failure: cause.
        names: names of its tiles or files, for messages.
        unusable: failures by name, if the shard ran but could not use some of its inputs. Such a shard is not left out:
            its result has the other inputs.
    """

    shard: int
    failure: Failure
    names: tuple[str, ...] = ()
    unusable: dict[str, Failure] = {}

    @property
    def units(self) -> int:
        """Number of units that are missing."""
        return len(self.unusable) or len(self.names) or 1

    def __str__(self) -> str:
        names = [*self.unusable] or self.names
        return f"{self.shard} ({', '.join(names)}): {self.failure}" if names else f"{self.shard}: {self.failure}"


class QuarantinedTile(BaseModel, frozen=True):
    """A tile that a product lacks. `job` is the job that failed there."""

    cell: str
    job: str
    failure: Failure


def unusable_of(shards: Iterable[LeftOut]) -> dict[str, Failure]:
    """The inputs that shards could not use, by name."""
    return {name: failure for shard in shards for name, failure in shard.unusable.items()}


class UnusableInputsError(AcdError):
    """Raised if a shard cannot use some of its inputs, to keep the result of the others.

    `error` is the first failure, `result` that of the usable inputs, `unusable` are the failures by name.
    """

    def __init__(self, error: AcdError, result: BaseModel, unusable: Mapping[str, Failure]) -> None:
        super().__init__(error.code, error.detail, error.fix)
        self.result = result
        self.unusable = dict(unusable)
