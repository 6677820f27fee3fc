"""The command `notify`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from acdtask.cli.cube_options import Cube
from acdtask.cli.lazy import as_command
from acdtask.cli.output import say

__all__ = ["command"]


@as_command(
    "Posts one CloudEvent with the result of a run, from the run's records in the cube: an alert with new patches, "
    "a heartbeat if there are none, or a failure with its causes. The same run and status always give the same "
    "event id. The environment variable ACD_WEBHOOK_AUTHORIZATION may hold the value of the Authorization header.",
    "acdtask notify --cube cube --run ID --status Succeeded --aoi koln --webhook https://example.com",
)
def command(
    cube: Cube,
    run: Annotated[str, typer.Option(metavar="ID", help="Id of the run: the value of ACD_RUN_ID in its stages.")],
    status: Annotated[Literal["Succeeded", "Failed", "Error"], typer.Option(help="Final status of the run.")],
    aoi: Annotated[str, typer.Option(metavar="NAME", help="Name of the AOI: the subject of the event.")],
    webhook: Annotated[str, typer.Option(metavar="URL", help="http:// or https:// address to post to.")],
    workflow: Annotated[str, typer.Option(metavar="NAME", help="Name of the workflow.")] = "",
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Namespace of the workflow.")] = "",
) -> None:
    from acdtask.engine.stages import open_site
    from acdtask.notify.event import FinishedRun, attributes_of, message_of
    from acdtask.notify.post import check_webhook, post_event

    host = check_webhook(webhook)
    finished = FinishedRun(run, status, aoi, workflow, namespace)
    site = open_site(cube)
    message = message_of(finished, site)
    attributes = attributes_of(finished, message.data)
    post_event(webhook, attributes, message.data)
    message.acknowledge(finished, site)
    say(f"{attributes['type']} {attributes['id']} was posted to {host}")
