"""Files and servers that must never be accessed: secrets outside the roots, and a web server as a canary."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SECRET_VALUE = 777
SECRET_TEXT = "CANARY-7d1f-the-admin-key"  # noqa: S105 - not a real key


@dataclass
class Canary:
    """A local web server.

    Attributes:
        address: http://host:port.
        requests: paths of all requests.
    """

    address: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def canary_server() -> Iterator[Canary]:
    """Run a web server that records every request and replies 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            canary.requests.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - likewise

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in http.server
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        canary = Canary(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield canary
        finally:
            server.shutdown()
            thread.join()


def raw_vrt(path: Path | str, width: int, height: int) -> str:
    """VRT whose pixels are the bytes of an arbitrary file."""
    return _vrt(
        f'<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativetoVRT="0">{path}</SourceFilename>'
        f"<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>{width}</LineOffset></VRTRasterBand>",
        width,
        height,
    )


def mosaic_vrt(
    source: Path | str, width: int, height: int, *, relative: bool = False, dtype: str = "Int16", more: str = ""
) -> str:
    """VRT with one source."""
    return _vrt(
        f'<VRTRasterBand dataType="{dtype}" band="1"><NoDataValue>-1</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="{int(relative)}">{source}</SourceFilename>'
        f"<SourceBand>1</SourceBand></SimpleSource>{more}</VRTRasterBand>",
        width,
        height,
    )


def wms(address: str, width: int, height: int) -> str:
    """Document of GDAL's WMS driver, whose pixels come from the web."""
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service>'
        f"<DataWindow><UpperLeftX>400000</UpperLeftX><UpperLeftY>5600000</UpperLeftY><LowerRightX>400800</LowerRightX>"
        f"<LowerRightY>5599400</LowerRightY><SizeX>{width}</SizeX><SizeY>{height}</SizeY></DataWindow>"
        f"<Projection>EPSG:32632</Projection><BandsCount>1</BandsCount></GDAL_WMS>"
    )


def _vrt(bands: str, width: int, height: int) -> str:
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32632</SRS>'
        f"<GeoTransform>400000, 20, 0, 5600000, 0, -20</GeoTransform>{bands}</VRTDataset>"
    )
