"""Gates over real HTTP, and as commands. Whatever is not clearly green is red."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from fleet.core.settings import CommandGate, HttpGate, PromqlGate
from fleet.gates import Gates


class Handler(BaseHTTPRequestHandler):
    status, body = 200, b""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Fresh", (Handler,), {"asked": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "wanted", "green"), [(200, 200, True), (503, 200, False), (204, 204, True), (302, 200, False)]
)
async def test_a_url_answers_with_its_status(
    service: tuple[str, type[Handler]],
    status: int,
    wanted: int,
    green: bool,  # noqa: FBT001
) -> None:
    url, handler = service
    handler.status = status
    why = await Gates((HttpGate(url=f"{url}/healthz?token=geheim", status=wanted),), "/").red()
    assert (why is None) == green
    if why is not None:
        assert f"status {status}, {wanted} was expected" in why
        assert "geheim" not in why


def vector(*values: str) -> bytes:
    results = ",".join(f'{{"metric":{{}},"value":[1,"{value}"]}}' for value in values)
    return f'{{"status":"success","data":{{"resultType":"vector","result":[{results}]}}}}'.encode()


@pytest.mark.parametrize(
    ("body", "red"),
    [
        (vector("0.01"), None),
        (vector("0.02"), "0.02, must be below 0.02"),
        (vector("0.01", "0.5"), "0.5, must be below 0.02"),
        (vector(), "no result"),
        (vector("NaN"), "NaN"),
        (b'{"status":"success","data":{"resultType":"scalar","result":[1,"0.001"]}}', None),
        (b"<html>log in</html>", "not Prometheus's"),
        (b'{"data":{"resultType":"vector","result":[{"value":7}]}}', "not Prometheus's"),
    ],
)
async def test_a_figure_of_prometheus(
    service: tuple[str, type[Handler]], body: bytes, red: str | None
) -> None:
    url, handler = service
    handler.body = body
    why = await Gates((PromqlGate(url=url, query="errors / requests", below=0.02),), "/").red()
    assert handler.asked == ["/api/v1/query?query=errors+/+requests"]
    assert why is None if red is None else why is not None and red in why


async def test_nobody_answers() -> None:
    why = await Gates((HttpGate(url="http://user:hunter2@127.0.0.1:1/x"),), "/").red()
    assert why is not None
    assert why.startswith("gate http://127.0.0.1:1/x is red")
    assert "hunter2" not in why


async def test_a_command_and_its_time_limit(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert await Gates((CommandGate(argv=("true",)),), folder).red() is None
    assert (
        await Gates((CommandGate(argv=("false",)),), folder).red()
        == "gate is red: command false: ended with 1"
    )
    slow = await Gates((CommandGate(argv=("sleep", "60"), timeout_s=0.1),), folder).red()
    assert slow is not None
    assert "not done within 0.1 s" in slow
