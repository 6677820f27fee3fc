"""The command `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acdtask.cli.cube_options import Cube
from acdtask.cli.lazy import as_command
from acdtask.cli.output import say

if TYPE_CHECKING:
    from acdtask.serve.serve import Serving

__all__ = ["command"]

_LAST_PORT = 65535


@as_command(
    "Serves a cube over Geocube's API, for Geocube's clients: records, variables, layouts, datasets, cubes, jobs. "
    "A missing cube is created. Clients authenticate with the keys in ACD_SERVE_KEY and ACD_SERVE_ADMIN_KEY. On "
    "SIGTERM or Ctrl-C the server stops when running calls are done or the grace period is over; a second signal "
    "stops it at once.",
    "acdtask serve --cube cube",
    "acdtask serve --cube s3://bucket/cube --host 0.0.0.0 --tls-cert tls.crt --tls-key tls.key",
)
def command(
    cube: Cube,
    port: Annotated[
        int, typer.Option(min=0, max=_LAST_PORT, metavar="PORT", help="gRPC port; 0 for any free port.")
    ] = 8080,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    http_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=_LAST_PORT, metavar="PORT", help="HTTP port for /health and map tiles.  [default: no HTTP]"
        ),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Key of the certificate, PEM.")] = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum number of concurrent calls.")] = 64,
    connections: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum connections to the gRPC port; HTTP takes half as many.")
    ] = 400,
    stall: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="Disconnect a client that does not read from its stream for this long."
        ),
    ] = 30.0,
    jobs: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Maximum number of concurrent consolidations; 0 for none in this server."
        ),
    ] = 1,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long running calls may continue after a stop signal.")
    ] = 30.0,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Folder or s3:// prefix of other files that clients may index and read. Without it, the server opens "
            "only files of the cube.  [repeatable]",
        ),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Allow other machines to read and write the cube without a key.")
    ] = False,
) -> None:
    from acdtask.serve.keys import Keys
    from acdtask.serve.serve import ServeSettings, Serving, cube_at, serve_until_signal
    from acdtask.serve.streams import StreamLimits

    settings = ServeSettings(
        host=host.strip(),
        port=port,
        http_port=http_port,
        tls_cert=tls_cert,
        tls_key=tls_key,
        connections=connections,
        workers=workers,
        jobs=jobs,
        grace=grace,
        allow_open=open_,
        data=tuple(data or ()),
        limits=StreamLimits(stall_s=stall),
    )
    serving = Serving(cube_at(cube), settings, Keys.from_environment())
    serve_until_signal(serving, lambda: _tell(serving))


def _tell(serving: Serving) -> None:
    say(serving.address)
    if serving.http_address:
        say(serving.http_address)
