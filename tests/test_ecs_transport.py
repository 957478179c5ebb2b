"""The transport over real sockets: what was sent, what was not, and what nobody knows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from fleet.clock import SystemClock
from fleet.cloud.ecs.endpoints import is_loopback
from fleet.cloud.ecs.transport import AiohttpTransport
from fleet.cloud.http import Request
from fleet.errors import CloudUnusable, NotSent, OutcomeUnknown
from fleet.secrets import redact, register

CANARY = "canary-token-of-the-transport"


@pytest.fixture
async def transport():
    made = AiohttpTransport(SystemClock(), environ={}, max_body=100_000)
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def raw(talk):
    """Serve *talk(reader, writer, number of the connection)* on loopback; yield its URL and what it heard."""
    heard: list[bytes] = []
    tasks = set()

    async def accept(reader, writer):
        heard.append(b"")
        number = len(heard) - 1
        tasks.add(asyncio.current_task())
        try:
            await talk(reader, writer, number, heard)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", heard
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def hear(reader, number, heard):
    data = await reader.readuntil(b"\r\n\r\n")
    for line in data.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            data += await reader.readexactly(int(line.split(b":")[1]))
    heard[number] += data


def post(url, **more):
    return Request(
        "POST",
        url,
        headers={"X-Auth-Token": CANARY},
        body=b'{"os-reinstall":{}}',
        **{"timeout_s": 5.0} | more,
    )


def soon(seconds=60.0):
    return SystemClock().boottime() + seconds


async def test_a_whole_exchange(transport):
    seen = []

    async def handler(request):
        seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.json_response({"a": 1}, status=202, headers={"X-Request-Id": "r", "Set-Cookie": "a=b"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    async with TestServer(app) as server:
        url = str(server.make_url("/")) + "v2.1/os-keypairs/my%20key%2B1?a=%3D"
        for _ in range(2):
            response = await transport.send(post(url, send_by=soon()))

    assert (response.status, response.body) == (202, b'{"a": 1}')
    assert response.headers["x-request-id"] == "r"
    method, path, headers, body = seen[1]
    assert (method, path, body) == ("POST", "/v2.1/os-keypairs/my%20key%2B1?a=%3D", b'{"os-reinstall":{}}')
    assert headers["X-Auth-Token"] == CANARY
    assert headers["User-Agent"].startswith("fleet/")
    assert "Cookie" not in headers


async def test_refused_connections_are_not_sent(transport):
    with socket.socket() as taken:  # bound and not listening: refused
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NotSent, match="not sent"):
            await transport.send(post(f"http://127.0.0.1:{taken.getsockname()[1]}/x", send_by=soon()))


async def test_a_name_nobody_knows_is_not_sent(transport):
    with pytest.raises(NotSent):
        await transport.send(post("https://nobody.invalid/x"))


async def test_a_failed_handshake_is_not_sent(transport):
    async def talk(reader, writer, number, heard):
        heard[number] += await reader.read(1000)
        writer.write(b"HTTP/1.1 400 this is no TLS\r\n\r\n")
        await writer.drain()

    async with raw(talk) as (url, heard):
        with pytest.raises(NotSent):
            await transport.send(post(url.replace("http:", "https:")))
    assert CANARY.encode() not in b"".join(heard)


async def test_a_handshake_that_takes_too_long_is_not_sent():
    async def talk(reader, writer, number, heard):
        await asyncio.sleep(30)

    transport = AiohttpTransport(SystemClock(), environ={}, connect_timeout_s=0.2)
    async with raw(talk) as (url, _):
        with pytest.raises(NotSent, match="no connection in time"):
            await transport.send(post(url.replace("http:", "https:")))
    await transport.close()


async def hang_up(reader, writer, number, heard):
    await hear(reader, number, heard)


async def hang_up_in_the_body(reader, writer, number, heard):
    await hear(reader, number, heard)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b'{"job_id":')
    await writer.drain()


async def garbage(reader, writer, number, heard):
    await hear(reader, number, heard)
    writer.write(b"\x00\xff\x00 what?\r\n\r\n")
    await writer.drain()


async def silence(reader, writer, number, heard):
    await hear(reader, number, heard)
    await asyncio.sleep(30)


async def trickle(reader, writer, number, heard):
    await hear(reader, number, heard)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def flood(reader, writer, number, heard):
    await hear(reader, number, heard)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await writer.drain()


@pytest.mark.parametrize("talk", [hang_up, hang_up_in_the_body, garbage, silence, trickle, flood])
@pytest.mark.parametrize("own", [True, False])
async def test_after_sending_the_outcome_is_unknown_and_nothing_is_repeated(transport, talk, own):
    register(CANARY)
    async with raw(talk) as (url, heard):
        with pytest.raises(OutcomeUnknown) as caught:
            await transport.send(post(f"{url}/wipe", timeout_s=0.5, send_by=soon() if own else None))

    assert len(heard) == 1
    assert heard[0].count(b"POST /wipe") == 1
    error = caught.value
    while error is not None:
        assert CANARY not in repr(error) + str(error) + repr(vars(error))
        error = error.__cause__


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(transport, status):
    async def talk(reader, writer, number, heard):
        await hear(reader, number, heard)
        writer.write(f"HTTP/1.1 {status} Go\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    async with raw(talk) as (url, heard):
        response = await transport.send(post(url))
    assert response.status == status
    assert len(heard) == 1


async def test_a_token_of_many_kilobytes_is_read(transport):
    token = "MII" + "x" * 60_000

    async def talk(reader, writer, number, heard):
        await hear(reader, number, heard)
        writer.write(f"HTTP/1.1 201 Made\r\nX-Subject-Token: {token}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    async with raw(talk) as (url, _):
        response = await transport.send(post(url))
    assert response.headers["x-subject-token"] == token


async def test_the_send_by_time_is_read_after_connecting():
    """TLS takes its time, or the machine slept meanwhile: connected, and not one byte sent."""

    class Sleepy(SystemClock):
        """A suspended machine: its time jumps once the server has seen the connection."""

        late = False

        def boottime(self):
            return 1000.0 if self.late else 0.0

    clock = Sleepy()
    transport = AiohttpTransport(clock, environ={})
    connected = asyncio.Event()

    async def talk(reader, writer, number, heard):
        connected.set()
        heard[number] += await reader.read(1000)

    async with raw(talk) as (url, heard):
        loop = asyncio.get_running_loop()
        real = loop.sock_connect

        async def slow_connect(sock, address):
            await real(sock, address)
            await asyncio.sleep(0.1)
            clock.late = True  # within the connect, after the look that a careless client would take

        loop.sock_connect = slow_connect  # type: ignore[method-assign]
        try:
            with pytest.raises(NotSent, match="send-by time passed while connecting"):
                await transport.send(post(url, send_by=5.0))
        finally:
            loop.sock_connect = real  # type: ignore[method-assign]
        await connected.wait()
        await asyncio.sleep(0.05)
        assert heard == [b""]
        clock.late = False
    await transport.close()


async def test_a_wipe_does_not_go_over_a_kept_alive_connection(transport):
    """The server hangs up on a connection's second request: reads try it, the wipe does not."""

    async def talk(reader, writer, number, heard):
        await hear(reader, number, heard)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        with contextlib.suppress(asyncio.IncompleteReadError):
            await hear(reader, number, heard)  # and hangs up

    async with raw(talk) as (url, heard):
        await transport.send(Request("GET", f"{url}/read", timeout_s=5.0))
        for _ in range(2):
            response = await transport.send(post(f"{url}/wipe", send_by=soon()))
            assert response.status == 200
    assert [data.count(b"POST /wipe") for data in heard] == [0, 1, 1]


async def test_a_post_on_a_dead_kept_alive_connection_is_not_sent_again(transport):
    """aiohttp repeats a GET there, and no POST; this is what the client's promise stands on."""

    async def talk(reader, writer, number, heard):
        await hear(reader, number, heard)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await hear(reader, number, heard)

    async with raw(talk) as (url, heard):
        await transport.send(Request("GET", f"{url}/read", timeout_s=5.0))
        with pytest.raises(OutcomeUnknown):
            await transport.send(post(f"{url}/stop"))
        assert sum(data.count(b"POST /stop") for data in heard) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://ecs.example.com/x",
        "ftp://127.0.0.1/",
        "//127.0.0.1",
        "",
        "http://[::1",
        "https:///x",
        "http://127.0.0.1.example.com/",
    ],
)
async def test_where_nothing_is_sent(transport, url):
    with pytest.raises(CloudUnusable) as caught:
        await transport.send(post(url))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback(host, is_it):
    assert is_loopback(host) is is_it


async def test_the_proxy_gets_its_credentials_and_no_token():
    async def talk(reader, writer, number, heard):
        await hear(reader, number, heard)
        writer.write(b"HTTP/1.1 407 no\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with raw(talk) as (url, heard):
        proxy = url.replace("http://", "http://user:proxy-pass@")
        transport = AiohttpTransport(
            SystemClock(), environ={"https_proxy": proxy, "http_proxy": proxy, "no_proxy": "direct.invalid"}
        )
        with pytest.raises(NotSent, match="the proxy refused with 407") as caught:
            await transport.send(post("https://ecs.example.com/x"))
        with pytest.raises(NotSent, match="no connection"):
            await transport.send(post("https://direct.invalid/x"))
        await transport.close()

    assert len(heard) == 1
    assert b"CONNECT ecs.example.com:443" in heard[0]
    assert b"Proxy-Authorization: Basic dXNlcjpwcm94eS1wYXNz" in heard[0]
    assert CANARY.encode() not in heard[0]
    assert "proxy-pass" not in str(caught.value)
    assert "user:password" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:Canary#pass@127.0.0.1:9",
        "http://user:Canary/pass@127.0.0.1:9",
        "http://user:123/Canary@127.0.0.1:9",
        "http://user:Canary?pass@127.0.0.1:9",
        "http://user:Canary-pass@127.0.0.1:port",
        "user:Canary-pass@",
        "socks5://user:Canary-pass@127.0.0.1:9",
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_a_proxy_that_cannot_be_used_is_named_without_its_password(proxy, variable):
    """Whatever stands there, nothing of it is asked for, and nothing of it is told."""
    transport = AiohttpTransport(SystemClock(), environ={variable: proxy})
    with pytest.raises(CloudUnusable, match=variable.upper()) as caught:
        await transport.send(post("https://ecs.example.com/x"))
    await transport.close()

    assert caught.value.hint
    assert "Canary" not in f"{caught.value} {caught.value.hint}"
    assert "Canary" not in redact(f"a log with {proxy} in it")


async def test_the_proxy_for_everything_is_taken_where_no_other_is_named():
    environ = {"ALL_PROXY": "http://all.example:1", "NO_PROXY": "inside.example"}
    transport = AiohttpTransport(SystemClock(), environ=environ)
    named = AiohttpTransport(SystemClock(), environ=environ | {"HTTPS_PROXY": "http://one.example:1"})

    assert transport.proxy_for("https://ecs.example.com/") == "http://all.example:1"
    assert transport.proxy_for("https://ecs.inside.example/") is None
    assert named.proxy_for("https://ecs.example.com/") == "http://one.example:1"


def test_certificates_are_checked_and_can_be_named(tmp_path):
    broken = tmp_path / "ca.pem"
    broken.write_text("none")
    for name in (str(broken), "/nonexistent/ca.pem"):
        with pytest.raises(CloudUnusable, match="certificates"):
            AiohttpTransport(SystemClock(), environ={"OS_CACERT": name})


@pytest.fixture
def stranger(tmp_path):
    """Return a server's context, and the file of the certificate that it shows."""
    key, crt = tmp_path / "key.pem", tmp_path / "crt.pem"
    subject = "-subj /CN=a-cloud -addext subjectAltName=IP:127.0.0.1"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 9 {subject} -keyout {key} -out {crt}"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    return context, str(crt)


@pytest.mark.parametrize("named", [False, True])
async def test_a_stranger_gets_nothing(stranger, *, named):
    """Whom no authority of the system's vouches for is sent nothing, unless the certificate is named."""
    context, crt = stranger
    seen = []

    async def hear(request):
        seen.append(request.path)
        return web.Response(text="{}")

    app = web.Application()
    app.router.add_post("/x", hear)
    carrier = AiohttpTransport(SystemClock(), environ={}, cafile=crt if named else None)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    try:
        sending = carrier.send(post(f"https://127.0.0.1:{server.port}/x"))
        if named:
            assert (await sending).status == 200
        else:
            with pytest.raises(NotSent, match="is not trusted"):
                await sending
    finally:
        await carrier.close()
        await server.close()
    assert seen == (["/x"] if named else [])


async def test_a_closed_transport_sends_nothing(transport):
    await transport.close()
    with pytest.raises(NotSent, match="closed"):
        await transport.send(post("http://127.0.0.1:1/x"))
