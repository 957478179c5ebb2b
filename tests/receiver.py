"""A web server that takes notifications, over a real socket, and answers as it is told."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET_PATH = "/services/T0/B0/hunter2-webhook-token"


@dataclass
class Receiver:
    """What was received.

    Attributes:
        url: Where to post; its path is the secret.
        bodies: Of every request, in order, those answered badly included.
        script: How the next requests are answered: a status, ``hang up``, or (status, headers, body).
        otherwise: How all further ones are.
    """

    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    taken: list[Any] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    script: deque[Any] = field(default_factory=deque)
    otherwise: Any = 200

    def events(self) -> list[str]:
        """Return the events of what was taken, in JSON form."""
        return [body["event"] for body in self.taken]


@contextmanager
def receiver(*script: Any, otherwise: Any = 200) -> Iterator[Receiver]:
    found = Receiver(script=deque(script), otherwise=otherwise)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.bodies.append(body)
            found.types.append(self.headers["Content-Type"])
            answer = found.script.popleft() if found.script else found.otherwise
            if answer == "hang up":
                self.close_connection = True
                return
            status, headers, said = answer if isinstance(answer, tuple) else (answer, {}, b"ok")
            if self.path != SECRET_PATH:
                status = 404
            if status < 300:
                found.taken.append(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}{SECRET_PATH}"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
