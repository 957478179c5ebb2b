"""More of the plan's checks: SSH banners, bodies, certificates, nonces, commands that talk without end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from fleet import checks
from fleet.checks import NetworkChecker
from fleet.commands import KEPT_FILE, execute
from fleet.core.facts import nonce_of
from fleet.core.model import Server, ServerId
from fleet.core.settings import CommandCheck, HttpCheck, NonceCheck, SshCheck
from fleet.secrets import MARK, register

WEB = Server(id=ServerId("id-1"), name="web-1", addresses=("127.0.0.1",))
NONCE = nonce_of("run-1", WEB.id)


@pytest.fixture
def checker(tmp_path: Path) -> NetworkChecker:
    return NetworkChecker(str(tmp_path))


@asynccontextmanager
async def saying(text: bytes, *, then_wait: bool = False) -> AsyncIterator[int]:
    """Serve a port on which everybody is told *text*."""
    over = asyncio.Event()
    talks: set[asyncio.Task[None]] = set()

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        with contextlib.suppress(OSError):
            writer.write(text)
            await writer.drain()
            if then_wait:
                await over.wait()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()
        await asyncio.gather(*talks)


# -- ssh ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"SSH-2.0-OpenSSH_9.6\r\n", b"Authorised use only.\r\nSSH-2.0-x\r\n"])
async def test_a_banner_passes_also_behind_other_lines(checker: NetworkChecker, text: bytes) -> None:
    async with saying(text, then_wait=True) as port:
        assert await checker.run(SshCheck(port=port), WEB) is None


@pytest.mark.parametrize(
    "text", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"x" * 100_000, b"line\r\n" * 10_000]
)
async def test_what_is_no_ssh_server_does_not(checker: NetworkChecker, text: bytes) -> None:
    async with saying(text) as port:
        why = await checker.run(SshCheck(port=port), WEB)
    assert why is not None
    assert why.startswith(f"ssh 127.0.0.1:{port}: ")


async def test_a_port_that_is_open_and_says_nothing_is_given_up(
    checker: NetworkChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "CONNECT_TIMEOUT_S", 0.2)
    async with saying(b"", then_wait=True) as port:
        assert "no banner within" in str(await checker.run(SshCheck(port=port), WEB))


# -- http -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(body: bytes, **options: object) -> AsyncIterator[str]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/", answer)
    server = TestServer(app)
    await server.start_server(**options)  # type: ignore[arg-type]
    try:
        yield str(server.make_url("/"))
    finally:
        await server.close()


async def test_a_body_that_matches(checker: NetworkChecker) -> None:
    async with answering(b'{"status": "UP", "peers": 4}') as url:
        assert await checker.run(HttpCheck(url=url, body=r'"status":\s*"UP"'), WEB) is None
        why = await checker.run(HttpCheck(url=url, body="DOWN"), WEB)
        assert "nothing in the answer matches 'DOWN'" in str(why)


async def test_only_the_first_64_kib_are_read(checker: NetworkChecker) -> None:
    async with answering(b"a" * checks.READ_BODY + b"needle" + b"b" * (4 << 20)) as url:
        assert await checker.run(HttpCheck(url=url, body="a{9}"), WEB) is None
        assert await checker.run(HttpCheck(url=url, body="needle"), WEB) is not None


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    """Return a server's context with a certificate that nobody vouches for."""
    key, crt = tmp_path / "key.pem", tmp_path / "crt.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=web-1 -keyout {key} -out {crt}".split(),
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    return context


async def test_certificates_are_checked_unless_the_plan_says_otherwise(
    checker: NetworkChecker, certificate: ssl.SSLContext
) -> None:
    async with answering(b"fine", ssl=certificate) as url:
        assert url.startswith("https://")
        why = await checker.run(HttpCheck(url=url), WEB)
        assert "certificate" in str(why).lower()
        assert await checker.run(HttpCheck(url=url, tls=False), WEB) is None


# -- nonce ----------------------------------------------------------------------------------------------


async def test_a_nonce_is_different_for_every_server_and_run() -> None:
    others = {nonce_of(run, ServerId(server)) for run in ("run-1", "run-2") for server in ("id-1", "id-2")}
    assert len(others) == 4
    assert NONCE in others


@pytest.mark.parametrize(("shown", "good"), [(NONCE, True), (nonce_of("run-0", WEB.id), False), ("", False)])
async def test_a_nonce_on_a_page(checker: NetworkChecker, shown: str, *, good: bool) -> None:
    async with answering(f"installed by {shown}\n".encode()) as url:
        why = await checker.run(NonceCheck(url=url, expected=NONCE), WEB)
        assert (why is None) is good


@pytest.mark.parametrize(("shown", "good"), [(NONCE, True), (nonce_of("run-0", WEB.id), False)])
async def test_a_nonce_that_a_command_prints(checker: NetworkChecker, shown: str, *, good: bool) -> None:
    argv = (sys.executable, "-c", "import sys; print('it says', sys.argv[1])", shown)
    why = await checker.run(NonceCheck(argv=argv, expected=NONCE), WEB)
    assert (why is None) is good
    if not good:
        assert "not this run" in str(why)


async def test_a_command_for_a_nonce_that_fails(checker: NetworkChecker) -> None:
    argv = (sys.executable, "-c", "raise SystemExit('no route to host')")
    assert "no route to host" in str(await checker.run(NonceCheck(argv=argv, expected=NONCE), WEB))


# -- commands -------------------------------------------------------------------------------------------


def talker(megabytes: int, last: str) -> str:
    lines = f"[sys.stdout.write('x' * 1023 + chr(10)) for _ in range({megabytes * 1024})]"
    return f"import sys; {lines}; print({last!r}); sys.exit(3)"


async def test_a_command_that_talks_without_end_is_kept_in_bounds(
    checker: NetworkChecker, tmp_path: Path
) -> None:
    argv = (sys.executable, "-c", talker(20, "the end"))
    why = await checker.run(CommandCheck(argv=argv), WEB)
    assert str(why).endswith("ended with 3: the end")

    log = tmp_path / "logs" / "x.log"
    register("S3cret-in-the-middle")
    argv = (sys.executable, "-c", talker(20, "the end of S3cret-in-the-middle"))
    ran = await execute(argv, folder=str(tmp_path), environment={}, stdin=b"", timeout_s=60.0, output=log)
    assert ran.code == 3
    assert len(ran.output) <= KEPT_FILE
    text = log.read_text()
    assert len(text) < KEPT_FILE + 200
    assert text.startswith("xxx")
    assert f"the end of {MARK}" in text
    assert "bytes were not kept" in text
    assert "S3cret" not in text


async def test_a_command_that_leaves_its_output_to_a_daemon_is_over_when_it_is_over(
    checker: NetworkChecker, tmp_path: Path
) -> None:
    """A grandchild in a session of its own keeps the pipe open: that is not waited for."""
    pid = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, sys; "
        "wait = [sys.executable, '-c', 'import time; time.sleep(600)']; "
        "daemon = subprocess.Popen(wait, start_new_session=True); "
        f"pathlib.Path({str(pid)!r}).write_text(str(daemon.pid))"
    )
    try:
        # It would be killed, and fail, at its time limit.
        check = CommandCheck(argv=(sys.executable, "-c", code), timeout_s=60.0)
        assert await checker.run(check, WEB) is None
        os.kill(int(pid.read_text()), 0)
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)
