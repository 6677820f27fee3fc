"""The command `notify`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from typer.core import TyperCommand

from acdtask.cli.cube_options import Cube
from acdtask.cli.lazy import command_of, example
from acdtask.cli.output import say

__all__ = ["command"]


def command() -> TyperCommand:
    """The command."""
    text = (
        "Posts one CloudEvent that says how a run ended, from what the run left in the cube's store: an alert with new "
        "patches, a heartbeat when nothing changed, or a failure with what is missing. The event of a run and status "
        "has always the same id. The environment variable ACD_WEBHOOK_AUTHORIZATION may hold the value of a header "
        "Authorization."
    )
    return command_of(
        _notify,
        text
        + example("acdtask notify --cube cube --run ID --status Succeeded --aoi koln --webhook https://example.com"),
    )


def _notify(
    cube: Cube,
    run: Annotated[str, typer.Option(metavar="ID", help="The run: what ACD_RUN_ID was in its stages.")],
    status: Annotated[Literal["Succeeded", "Failed", "Error"], typer.Option(help="How the run ended.")],
    aoi: Annotated[str, typer.Option(metavar="NAME", help="Name of the AOI: the subject of the event.")],
    webhook: Annotated[str, typer.Option(metavar="URL", help="http:// or https:// address to post to.")],
    workflow: Annotated[str, typer.Option(metavar="NAME", help="Name of the workflow.")] = "",
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Namespace of the workflow.")] = "",
) -> None:
    from acdtask.engine.stages import open_site
    from acdtask.notify.event import Ending, attributes_of, message_of
    from acdtask.notify.post import check_webhook, post_event

    host = check_webhook(webhook)
    ending = Ending(run, status, aoi, workflow, namespace)
    site = open_site(cube)
    message = message_of(ending, site)
    attributes = attributes_of(ending, message.data)
    post_event(webhook, attributes, message.data)
    message.acknowledge(ending, site)
    say(f"{attributes['type']} {attributes['id']} was posted to {host}")
