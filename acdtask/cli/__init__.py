"""The command line. `main` is the only place that decides the exit status."""

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


QUOTE = "Put patterns in quotes, so that the shell does not expand them: --source 'images/*.tif'."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    >>> main(["--version"])
    acdtask 0.1.0
    0
    """
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with sigterm_as_interrupt():
            status = _run(command_line)
            sys.stdout.flush()
    except AcdError as error:
        return _report(error)
    except KeyboardInterrupt:
        return _report(AcdError(ErrorCode.INTERRUPTED, "The command was interrupted by Ctrl-C or a signal"))
    except BrokenPipeError:
        return _end_quietly_if_stdout_is_closed()
    except Exception as error:  # noqa: BLE001  # the one place that ends the process: any other error is a bug
        return _report(AcdError(ErrorCode.BUG, f"{type(error).__name__}: {error}"), unexpected=True)
    except BaseException as error:
        from acdtask.storage.errors import is_panic

        if not is_panic(error):
            raise
        # A Rust panic is not an Exception; unhandled, it would end the process with a traceback and status 1.
        return _report(AcdError(ErrorCode.BUG, f"{type(error).__name__}: {error}"), unexpected=True)
    return status


def _run(command_line: Sequence[str]) -> int:
    import typer

    from acdtask.cli.app import OutputClosedError, app
    from acdtask.cli.arguments import read_at_files
    from acdtask.cli.project import project_first

    try:
        status = typer.main.get_command(app).main(
            args=project_first(read_at_files(command_line)),
            prog_name="acdtask",
            standalone_mode=False,
            obj=list(command_line),
        )
    except OutputClosedError as error:
        raise BrokenPipeError from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except typer.TyperException as error:
        raise _usage_error(error, command_line) from error
    return status if isinstance(status, int) else ExitStatus.OK


def _usage_error(error: Exception, command_line: Sequence[str]) -> AcdError:
    """Convert a usage error of the framework, with the help command as its fix."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "acdtask"
    message = error.format_message().replace("Value error, ", "") if hasattr(error, "format_message") else str(error)
    fix = QUOTE if _is_expanded_pattern(message, command_line) else f"Run '{command} --help'."
    option = getattr(error, "option_name", "")
    if option:
        near = [name for name in getattr(error, "possibilities", None) or () if name.startswith("--")]
        others = [
            f"'acdtask {name}'" for name in _jobs_with_option(option) if not command.startswith(f"acdtask {name} ")
        ]
        fix = f"It is an option of {' and '.join(others)}. {fix}" if others else fix
        message = f"No such option: {option}"
        if near and not others:
            message = f"{message}. Did you mean {' or '.join(near)}?"
    return AcdError(ErrorCode.USAGE, message, fix)


def _jobs_with_option(option: str) -> list[str]:
    from acdtask.cli.options import options_of
    from acdtask.jobs.registry import JOBS, load_job

    return [name for name in JOBS if option in {setting.flag for setting in options_of(load_job(name).settings)}]


def _is_expanded_pattern(message: str, command_line: Sequence[str]) -> bool:
    """Whether the extra arguments are files, as when a shell expanded a pattern."""
    return "unexpected extra argument" in message and sum(os.path.exists(text) for text in command_line) > 1  # noqa: PTH110 - a text may be too long for a Path


def _report(error: AcdError, *, unexpected: bool = False) -> int:
    """Write an error with its fix to stderr, as text or as a JSON log event, and return the exit status."""
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
    with contextlib.suppress(OSError):  # stderr is closed; the exit status still reports the error
        sys.stderr.write(text)
        sys.stderr.flush()


def _end_quietly_if_stdout_is_closed() -> int:
    """End with status 0 if the reader closed standard output; any other broken pipe is a bug."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are reported even without events
    if not poll.poll(0):
        return _report(AcdError(ErrorCode.BUG, "a pipe other than standard output is broken"), unexpected=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout again at exit
    return ExitStatus.OK
