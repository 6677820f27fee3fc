"""Commands that are imported when they are used, so that help is fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import isfunction
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from acdtask import log
from acdtask.cli.project import defaults_of
from acdtask.errors import AcdError, ErrorCode

__all__ = ["CONTEXT", "Lazy", "LazyGroup", "OutputClosedError", "as_command", "command_of", "example"]

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


FROM_PROJECT = ("cube", "layout", "variable", "instance")
"""Parameters of commands with defaults in acd.toml; the settings of jobs are read in `cli/settings.py`."""


class OutputClosedError(Exception):
    """The reader of standard output closed it."""


@dataclass(frozen=True)
class Lazy:
    """A command that is imported on use.

    `target` is `module:name` of the command, or of a function that makes it from `arguments`. `section` is its heading
    in the list of commands.
    """

    summary: str
    target: str
    arguments: tuple[str, ...] = ()
    section: str = "Commands"

    def load(self) -> TyperCommand | TyperGroup:
        """Import the module, and make the command if the target is a function."""
        module, _, name = self.target.partition(":")
        target = getattr(import_module(module), name)
        command: TyperCommand | TyperGroup = target(*self.arguments) if isfunction(target) else target
        return command


class LazyGroup(TyperGroup):
    """A group of commands that imports only the command that is called."""

    def __init__(self, *, lazy: Mapping[str, Lazy], **attributes: Any) -> None:
        stubs = {name: TyperCommand(name=name, help=entry.summary) for name, entry in lazy.items()}
        super().__init__(**{"context_settings": CONTEXT, **attributes, "commands": stubs, "rich_markup_mode": None})
        self.lazy = dict(lazy)

    def load(self, name: str) -> TyperCommand | TyperGroup:
        """Import a command, with its options."""
        command = self.lazy[name].load()
        command.name = name
        return command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help if no command is given."""
        return super().parse_args(ctx, args if args or ctx.resilient_parsing else ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is called."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, self.load(name) if name is not None else stub, rest

    def invoke(self, ctx: Any) -> Any:
        """Call the command. Ctrl-C and a closed pipe are converted, since typer gives them exit statuses of its own."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise AcdError(ErrorCode.INTERRUPTED, "The command was interrupted by Ctrl-C or a signal") from error
        except BrokenPipeError as error:
            raise OutputClosedError from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, grouped by section."""
        for section in dict.fromkeys(entry.section for entry in self.lazy.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name, entry.summary) for name, entry in self.lazy.items() if entry.section == section]
                )


class _LoggedCommand(TyperCommand):
    """A command with defaults from acd.toml; logs versions and arguments before it starts."""

    from_project: tuple[str, ...] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Use the values of acd.toml as defaults of the parameters."""
        names = [parameter.name for parameter in self.params if parameter.name in self.from_project]
        if names and not ctx.resilient_parsing and not {*args} & {*CONTEXT["help_option_names"]}:
            ctx.default_map = defaults_of(names, ctx.command_path)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        log.announce(ctx.find_root().obj or [])
        return super().invoke(ctx)


def command_of(function: Callable[..., None], text: str, from_project: tuple[str, ...] = FROM_PROJECT) -> TyperCommand:
    """Make a command from a function whose annotated parameters are the options.

    `text` is its help: a short paragraph and an example. `from_project` names the parameters with defaults in acd.toml.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=_LoggedCommand, help=text, context_settings=CONTEXT)(function)
    command = cast("_LoggedCommand", typer.main.get_command(app))
    command.from_project = from_project
    return command


def as_command(
    text: str, *examples: str, from_project: tuple[str, ...] = FROM_PROJECT
) -> Callable[[Callable[..., None]], TyperCommand]:
    """Decorator that makes a command from a function, like `command_of`, with examples at the end of its help."""
    return lambda function: command_of(function, text + example(*examples), from_project)


def example(*lines: str) -> str:
    r"""Format examples for the end of a help text; the marker keeps typer from reflowing them.

    >>> example("acdtask demo").splitlines()
    ['', '', '\x08', 'Example:', '  acdtask demo']
    """
    return "\n\n\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
