"""Commands that are imported when they are used, so that help costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from acdtask import log
from acdtask.cli.project import defaults_of
from acdtask.errors import AcdError, ErrorCode

__all__ = ["CONTEXT", "Lazy", "LazyGroup", "OutputClosedError", "command_of", "example"]

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


FROM_PROJECT = ("cube", "layout", "variable", "instance")
"""The parameters of commands that acd.toml may give; a job's settings come from there in another way."""


class OutputClosedError(Exception):
    """Whoever read our standard output has closed it."""


@dataclass(frozen=True)
class Lazy:
    """A command that is not imported yet.

    Attributes:
        summary: one line for the list of commands.
        target: `module:function`; the function returns the command.
        arguments: what the function is called with.
        section: heading in the list of commands.
    """

    summary: str
    target: str
    arguments: tuple[str, ...] = ()
    section: str = "Commands"

    def load(self) -> TyperCommand | TyperGroup:
        """Import the module and make the command."""
        module, _, function = self.target.partition(":")
        command: TyperCommand | TyperGroup = getattr(import_module(module), function)(*self.arguments)
        return command


class LazyGroup(TyperGroup):
    """A group that knows the names and summaries of its commands, and imports the one that is called."""

    def __init__(self, *, lazy: Mapping[str, Lazy], **attributes: Any) -> None:
        stubs = {name: TyperCommand(name=name, help=entry.summary) for name, entry in lazy.items()}
        super().__init__(**{**attributes, "commands": stubs, "rich_markup_mode": None})
        self.lazy = dict(lazy)

    def load(self, name: str) -> TyperCommand | TyperGroup:
        """The command itself, with its options."""
        command = self.lazy[name].load()
        command.name = name
        return command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without a command, show the help."""
        return super().parse_args(ctx, args if args or ctx.resilient_parsing else ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, imported now."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, self.load(name) if name is not None else stub, rest

    def invoke(self, ctx: Any) -> Any:
        """Call the command. The framework would give Ctrl-C and a closed pipe exit statuses of its own."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise AcdError(ErrorCode.INTERRUPTED, "The command was ended by Ctrl-C or by a signal") from error
        except BrokenPipeError as error:
            raise OutputClosedError from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, under their headings."""
        for section in dict.fromkeys(entry.section for entry in self.lazy.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name, entry.summary) for name, entry in self.lazy.items() if entry.section == section]
                )


class _Announced(TyperCommand):
    """A command that takes values from acd.toml, and logs the versions and the arguments before it starts."""

    from_project: tuple[str, ...] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parameters that neither an option nor the environment gives have the values of acd.toml, if it has some."""
        wanted = [parameter.name for parameter in self.params if parameter.name in self.from_project]
        if wanted and not ctx.resilient_parsing and not {*args} & {*CONTEXT["help_option_names"]}:
            ctx.default_map = defaults_of(wanted, ctx.command_path)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        log.announce(ctx.find_root().obj or [])
        return super().invoke(ctx)


def command_of(function: Callable[..., None], text: str, from_project: tuple[str, ...] = FROM_PROJECT) -> TyperCommand:
    """The command that a function is; its annotated parameters are the options.

    Args:
        function: what the command does.
        text: its help: a short paragraph, and an example.
        from_project: the parameters that acd.toml may give.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=_Announced, help=text, context_settings=CONTEXT)(function)
    command = cast("_Announced", typer.main.get_command(app))
    command.from_project = from_project
    return command


def example(*lines: str) -> str:
    r"""Examples for the end of a help text, which the framework leaves as they are.

    >>> example("acdtask demo").splitlines()
    ['', '', '\x08', 'Example:', '  acdtask demo']
    """
    return "\n\n\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
