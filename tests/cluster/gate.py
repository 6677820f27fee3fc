"""A way to S3 that can be shut: a pod that hands on connections, behind a service."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.cluster.tools import Place

__all__ = ["Gate"]

NAME = "s3-gate"
PORT = 7071
PROGRAM = """
import socket, socketserver, sys, threading

class Gate(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as server:
            back = threading.Thread(target=copy, args=(server, self.request))
            back.start()
            copy(self.request, server)
            back.join()

def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

Server(("", 7071), Gate).serve_forever()
"""


class Gate:
    """The gate of a namespace. `address` is what takes the place of the S3 server's."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.address = f"http://{NAME}.{place.namespace}.svc.cluster.local:{PORT}"

    def open(self) -> None:
        """Hand connections on."""
        server = urlsplit(self._place.surroundings.s3)
        self._place.serve(NAME, PORT, PROGRAM, str(server.hostname), str(server.port or 80))

    def shut(self) -> None:
        """Let nobody through: connections end, and new ones are refused."""
        self._place.kubectl("delete", "pod", NAME, "--now")
