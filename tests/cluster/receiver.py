"""Who gets the events: a pod with an HTTP server that prints what is posted, behind a service."""

from __future__ import annotations

import json

from tests.cluster.tools import Json, Place

__all__ = ["Receiver"]

NAME = "receiver"
PORT = 8080
PROGRAM = """
import http.server, json

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = {name.lower(): value for name, value in self.headers.items()}
        print(json.dumps({"head": head, "event": json.loads(body)}), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(("", 8080), Receiver).serve_forever()
"""


class Receiver:
    """The receiver of a namespace. `url` is what the webhook is set to."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.url = f"http://{NAME}.{place.namespace}.svc.cluster.local:{PORT}/events"
        place.serve(NAME, PORT, PROGRAM)

    def letters(self) -> list[Json]:
        """What came, the first one first: `head` and `event`."""
        return [json.loads(line) for line in self._place.kubectl("logs", NAME).splitlines()]
