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
        self._server = urlsplit(place.surroundings.s3)
        self.address = f"http://{NAME}.{place.namespace}.svc.cluster.local:{PORT}"
        place.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": NAME},
                "spec": {"selector": {"app": NAME}, "ports": [{"port": PORT}]},
            }
        )

    def open(self) -> None:
        """Hand connections on."""
        server = self._server
        container = {
            "name": "gate",
            "image": self._place.surroundings.image,
            "command": ["python3", "-c", PROGRAM, str(server.hostname), str(server.port or 80)],
            "ports": [{"containerPort": PORT}],
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
        spec = {"containers": [container], "securityContext": user, "terminationGracePeriodSeconds": 0}
        metadata = {"name": NAME, "labels": {"app": NAME}}
        self._place.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self._place.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=90s")

    def shut(self) -> None:
        """Let nobody through: connections end, and new ones are refused."""
        self._place.kubectl("delete", "pod", NAME, "--now")
