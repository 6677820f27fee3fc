"""The command `notify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from acdtask.cli.cube_options import Cube
from acdtask.cli.lazy import as_command
from acdtask.cli.output import say

if TYPE_CHECKING:
    from acdtask.jobs.contract import Site
    from acdtask.notify.deliver import Delivery
    from acdtask.notify.event import FinishedRun

__all__ = ["command"]


@as_command(
    "Reports the end of a run to a webhook as a CloudEvent, from the run's records in the cube: an alert with new "
    "patches, a heartbeat if there are none, or a failure with its causes. The event first goes into the outbox of the "
    "AOI in the cube; then all events that wait there are posted in order. An event stays until the receiver has "
    "acknowledged it, so it may arrive twice, with the same source and id. Without --run, only what waits is posted. "
    "The environment variable ACD_WEBHOOK_AUTHORIZATION may hold the value of the Authorization header.",
    "acdtask notify --cube cube --run ID --status Succeeded --aoi koln --webhook https://example.com",
    "acdtask notify --cube cube --aoi koln --webhook https://example.com",
)
def command(
    cube: Cube,
    aoi: Annotated[str, typer.Option(metavar="NAME", help="Name of the AOI: the subject of the event.")],
    webhook: Annotated[str, typer.Option(metavar="URL", help="http:// or https:// address to post to.")],
    run: Annotated[str, typer.Option(metavar="ID", help="Id of the run: the value of ACD_RUN_ID in its stages.")] = "",
    status: Annotated[
        Literal["Succeeded", "Failed", "Error"], typer.Option(help="Final status of the run.")
    ] = "Succeeded",
    workflow: Annotated[str, typer.Option(metavar="NAME", help="Name of the workflow.")] = "",
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Namespace of the workflow.")] = "",
    monitor: Annotated[str, typer.Option(metavar="NAME", help="Name of the monitor.")] = "",
    retry: Annotated[int, typer.Option(metavar="N", help="How often this command was repeated already.")] = 0,
    retries: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How often it is repeated. The last time, a receiver that is away is no error: the events wait.",
        ),
    ] = None,
    resend_refused: Annotated[
        bool, typer.Option("--resend-refused", help="Also post the events that the receiver rejected before.")
    ] = False,
) -> None:
    from acdtask.engine.stages import open_site
    from acdtask.notify.deliver import send_waiting
    from acdtask.notify.event import FinishedRun
    from acdtask.notify.outbox import Outbox
    from acdtask.notify.post import check_webhook, post_event

    host = check_webhook(webhook)
    site = open_site(cube)
    last = retries is None or retry >= retries
    if run and not _report(FinishedRun(run, status, aoi, workflow, namespace, monitor), site, webhook, last=last):
        return
    outbox = Outbox(site, aoi)
    if resend_refused:
        say(f"{outbox.restore_refused()} refused events are in the outbox again")
    delivery = send_waiting(outbox, lambda event: post_event(webhook, event.attributes, event.data))
    for event in delivery.sent:
        say(f"{event.attributes['type']} {event.id} was posted to {host}")
    _raise_or_tell(delivery, outbox.address, give_up=retries is not None and last)


def _report(finished: FinishedRun, site: Site, webhook: str, *, last: bool) -> bool:
    """Put the events of the run into the outbox. False if the store fails, and a failed run was reported without it."""
    from acdtask.errors import AcdError
    from acdtask.notify.deliver import report_end
    from acdtask.notify.event import end_of, unreadable
    from acdtask.notify.post import post_event

    try:
        report_end(finished, site)
    except AcdError as error:
        if finished.status == "Succeeded" or not last:
            raise
        event = end_of(finished, unreadable(error))
        post_event(webhook, event.attributes, event.data)
        say(f"{event.attributes['type']} {event.id} was posted without the outbox: {error}")
        return False
    return True


def _raise_or_tell(delivery: Delivery, address: str, *, give_up: bool) -> None:
    from acdtask.errors import AcdError, ErrorCode

    if delivery.refused:
        raise AcdError(ErrorCode.EVENT_REFUSED, f"{len(delivery.refused)} events: {', '.join(delivery.refused)}")
    if delivery.away is None:
        if not delivery.sent:
            say("no event is waiting")
        return
    waiting = f"{delivery.away.detail}; {delivery.waiting} events wait in {address}, and the next run sends them first"
    if not give_up:
        raise AcdError(delivery.away.code, waiting, delivery.away.fix)
    say(f"{delivery.away.code.label}: {waiting}")
