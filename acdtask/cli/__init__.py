"""The command line: parse, call, exit code. `main` is the one place that decides how the process ends."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import traceback
from collections.abc import Sequence

from acdtask import log
from acdtask.engine.signals import sigterm_as_interrupt
from acdtask.errors import AcdError, ErrorCode, ExitStatus

__all__ = ["main"]


QUOTE = "Put a pattern of paths in quotes, so that the shell does not replace it: --source 'images/*.tif'."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    >>> main(["--version"])
    acdtask 0.1.0
    0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with sigterm_as_interrupt():
            status = _run(given)
            sys.stdout.flush()
    except AcdError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return _refuse(AcdError(ErrorCode.INTERRUPTED, "The command was ended by Ctrl-C or by a signal"))
    except BrokenPipeError:
        return _end_quietly_if_stdout_is_closed()
    except Exception as error:  # noqa: BLE001  # the one place that ends the process: whatever is left is a bug
        return _refuse(AcdError(ErrorCode.BUG, f"{type(error).__name__}: {error}"), unexpected=True)
    except BaseException as error:
        from acdtask.storage.errors import is_panic

        if not is_panic(error):
            raise
        # A panic of a library in Rust is no Exception, and would end the process with a traceback and status 1.
        return _refuse(AcdError(ErrorCode.BUG, f"{type(error).__name__}: {error}"), unexpected=True)
    return status


def _run(given: Sequence[str]) -> int:
    import typer

    from acdtask.cli.app import OutputClosedError, app
    from acdtask.cli.arguments import read_at_files
    from acdtask.cli.project import lifted

    try:
        status = typer.main.get_command(app).main(
            args=lifted(read_at_files(given)), prog_name="acdtask", standalone_mode=False, obj=list(given)
        )
    except OutputClosedError as error:
        raise BrokenPipeError from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except typer.TyperException as error:
        raise _usage_error(error, given) from error
    return status if isinstance(status, int) else ExitStatus.OK


def _usage_error(error: Exception, given: Sequence[str]) -> AcdError:
    """What the framework says of a command line, and what to run to see what it takes."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "acdtask"
    message = error.format_message().replace("Value error, ", "") if hasattr(error, "format_message") else str(error)
    fix = QUOTE if _names_files(message, given) else f"Run '{command} --help'."
    option = getattr(error, "option_name", "")
    if option:
        from acdtask.cli.hints import jobs_with_option

        near = [name for name in getattr(error, "possibilities", None) or () if name.startswith("--")]
        others = [
            f"'acdtask {name}'" for name in jobs_with_option(option) if not command.startswith(f"acdtask {name} ")
        ]
        fix = f"It is an option of {' and '.join(others)}. {fix}" if others else fix
        message = f"No such option: {option}"
        if near and not others:
            message = f"{message}. Did you mean {' or '.join(near)}?"
    return AcdError(ErrorCode.USAGE, message, fix)


def _names_files(message: str, given: Sequence[str]) -> bool:
    """Whether arguments are too many, and files: a shell has replaced a pattern by the names that it matches."""
    return "unexpected extra argument" in message and sum(os.path.exists(text) for text in given) > 1  # noqa: PTH110 - a text may be too long for a Path


def _refuse(error: AcdError, *, unexpected: bool = False) -> int:
    """Tell stderr what is wrong and how to mend it: in words, or as a log event if JSON was asked for."""
    status = error.code.value.exit_status
    settings = log.current()
    if settings.mode == "json":
        log.events("cli").error(
            "command.failed",
            traceback=unexpected,
            code=error.code.label,
            name=error.code.name,
            detail=error.detail,
            fix=error.fix,
            retryable=error.code.value.retryable,
            exit_status=int(status),
        )
    else:
        trace = traceback.format_exc() if unexpected and settings.verbose else ""
        end = "" if error.detail.endswith("?") else "."
        _write_error(f"{trace}error {error.code.label}: {error.detail}{end}\n{error.fix}\n")
    return status


def _write_error(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens, and the exit status still tells
        sys.stderr.write(text)
        sys.stderr.flush()


def _end_quietly_if_stdout_is_closed() -> int:
    """A reader that has enough is no error; any other broken pipe is."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)  # an error on it is always told
    if not watched.poll(0):
        return _refuse(AcdError(ErrorCode.BUG, "a pipe broke, and it was not the output"), unexpected=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
    return ExitStatus.OK
