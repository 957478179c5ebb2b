"""How far a host can be reached: real names, real sockets, real certificates."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from fleet.clock import SystemClock
from fleet.errors import CloudUnusable
from fleet.reach import reach


@pytest.fixture
def quiet(monkeypatch):
    """No proxy of the machine that the tests run on."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "OS_CACERT"):
        monkeypatch.delenv(name, raising=False)


def certificate(folder: Path, days: int = 90) -> tuple[ssl.SSLContext, str]:
    """Return a server's context and the file of the authority that vouches for it."""
    key, crt = folder / "key.pem", folder / "crt.pem"
    subject = "-subj /CN=a-cloud -addext subjectAltName=IP:127.0.0.1"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days {days} {subject} -keyout {key} -out {crt}"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    return context, str(crt)


@asynccontextmanager
async def answering(date: datetime | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Answer everything with 404 and a date."""
    shown = "" if date is None else f"Date: {format_datetime(date, usegmt=True)}\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(65536)  # a short request, or the beginning of a handshake
            writer.write(f"HTTP/1.1 404 Not Found\r\n{shown}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_host_and_its_clock(quiet):
    now = datetime.now(UTC)
    async with answering(now - timedelta(hours=1)) as port:
        found = await reach(f"http://127.0.0.1:{port}", SystemClock(), None)
    assert found.skew_s is not None
    assert 3500 < found.skew_s < 3700

    async with answering() as port:
        assert (await reach(f"http://127.0.0.1:{port}", SystemClock(), None)).skew_s is None


async def test_a_certificate_that_somebody_vouches_for(quiet, tmp_path):
    tls, authority = certificate(tmp_path, days=5)
    async with answering(tls=tls) as port:
        found = await reach(f"https://127.0.0.1:{port}", SystemClock(), authority)
        with pytest.raises(CloudUnusable, match="not trusted") as caught:
            await reach(f"https://127.0.0.1:{port}", SystemClock(), None)
    assert "TLSv1" in found.said
    assert ", in 4 days" in found.said or ", in 5 days" in found.said
    assert "OS_CACERT" in caught.value.hint


async def test_a_port_that_speaks_no_tls(quiet):
    async with answering() as port:
        with pytest.raises(CloudUnusable, match="no TLS"):
            await reach(f"https://127.0.0.1:{port}", SystemClock(), None)


async def test_nobody_listens(quiet):
    async with answering() as port:
        pass
    with pytest.raises(CloudUnusable, match="Connection refused") as caught:
        await reach(f"http://127.0.0.1:{port}", SystemClock(), None)
    assert "HTTPS_PROXY" in caught.value.hint


async def test_a_name_that_is_not_there(quiet):
    with pytest.raises(CloudUnusable, match=r"iam\.eu-de\.invalid: the name is not known") as caught:
        await reach("https://iam.eu-de.invalid", SystemClock(), None)
    assert "region" in caught.value.hint


async def test_a_proxy_that_is_not_there(quiet, monkeypatch):
    """The cloud's name is the proxy's to look up."""
    async with answering() as port:
        pass
    monkeypatch.setenv("https_proxy", f"http://user:Canary-Proxy-Pass@127.0.0.1:{port}")
    with pytest.raises(CloudUnusable, match="the proxy 127") as caught:
        await reach("https://iam.eu-de.invalid", SystemClock(), None)
    assert "Canary" not in str(caught.value)
