"""Arguments whose values are read from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.files import read_small_file

__all__ = ["read_at_files"]


def read_at_files(arguments: Sequence[str]) -> list[str]:
    """Replace each `@path` and `--option=@path` by the text of the file; `@@x` stands for the text `@x`.

    INPUT_MISSING if the file does not exist, INPUT_UNREADABLE if it is not text.

    >>> read_at_files(["records", "--name", "@@S1*"])
    ['records', '--name', '@S1*']
    """
    return [_read(argument) for argument in arguments]


def _read(argument: str) -> str:
    option, separator, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    if not value.startswith("@"):
        return argument
    if value.startswith("@@"):
        return f"{option}{separator}{value[1:]}"
    path = Path(value[1:])
    try:
        text = read_small_file(path).decode()
    except UnicodeDecodeError as error:
        raise AcdError(
            ErrorCode.INPUT_UNREADABLE,
            f"{path} is not text",
            "Give a text file after '@', or write '@@' for a literal '@'.",
        ) from error
    except OSError as error:
        raise AcdError(
            ErrorCode.INPUT_MISSING,
            f"{path} cannot be read: {error.strerror}",
            "Check the path after '@', or write '@@' for a literal '@'.",
        ) from error
    return f"{option}{separator}{text.strip()}"
