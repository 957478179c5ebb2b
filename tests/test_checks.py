"""The plan's checks, against real sockets and real processes on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from fleet import checks
from fleet.checks import NetworkChecker
from fleet.commands import KEPT_LINE
from fleet.core.model import Server, ServerId
from fleet.core.settings import CommandCheck, HttpCheck, TcpCheck
from fleet.secrets import MARK, register

WEB = Server(
    id=ServerId("id-1"),
    name="web-1",
    addresses=("127.0.0.1",),
    public_addresses=("198.51.100.7",),
    zone="az-1",
    flavor="s3",
    image="img",
)


@pytest.fixture
def checker(tmp_path: Path) -> NetworkChecker:
    return NetworkChecker(str(tmp_path))


@pytest.fixture
def silent() -> int:
    """Return a port on which connections are made and never answered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield listening.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


# -- tcp ------------------------------------------------------------------------------------------------


async def test_an_open_port_passes(checker: NetworkChecker, silent: int) -> None:
    assert await checker.run(TcpCheck(port=silent), WEB) is None


async def test_a_closed_port_says_so(checker: NetworkChecker) -> None:
    port = closed_port()
    why = await checker.run(TcpCheck(port=port), WEB)
    assert why is not None
    assert why.startswith(f"tcp 127.0.0.1:{port}: ")
    assert "refused" in why.lower() or "connect" in why.lower()


async def test_a_port_that_does_not_answer_is_given_up(
    checker: NetworkChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full backlog drops what comes: the connection is neither made nor refused."""
    monkeypatch.setattr(checks, "CONNECT_TIMEOUT_S", 0.2)
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003  # its only argument
            filler.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        assert await checker.run(TcpCheck(port=port), WEB) == f"tcp 127.0.0.1:{port}: no answer within 0.2 s"


async def test_a_server_without_an_address_cannot_be_checked(checker: NetworkChecker) -> None:
    why = await checker.run(TcpCheck(port=22), Server(id=ServerId("x")))
    assert why == "tcp 22: the server shows no private address"


# -- http -----------------------------------------------------------------------------------------------


@pytest.fixture
async def site() -> AsyncIterator[TestServer]:
    async def answer(request: web.Request) -> web.Response:
        status = int(request.match_info["status"])
        return web.Response(status=status, headers={"Location": "/200"} if status == 302 else {})

    app = web.Application()
    app.router.add_get("/{status}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield server


@pytest.mark.parametrize("status", [200, 204, 302, 503])
async def test_the_status_that_is_wanted_passes(
    checker: NetworkChecker, site: TestServer, status: int
) -> None:
    """A redirect is an answer like any other, and is not followed to some other machine."""
    check = HttpCheck(url=f"http://{{server.private_ip}}:{site.port}/{status}", status=status)
    assert await checker.run(check, WEB) is None


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_another_status_does_not(checker: NetworkChecker, site: TestServer, status: int) -> None:
    url = f"http://127.0.0.1:{site.port}/{status}"
    why = await checker.run(HttpCheck(url=url), WEB)
    assert why == f"http {url}: status {status}, 200 was expected"


async def test_nobody_there(checker: NetworkChecker) -> None:
    url = f"http://127.0.0.1:{closed_port()}/"
    why = await checker.run(HttpCheck(url=url), WEB)
    assert why is not None
    assert why.startswith(f"http {url}: ")


async def test_no_answer_in_time(
    checker: NetworkChecker, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "HTTP_TIMEOUT_S", 0.2)
    url = f"http://127.0.0.1:{silent}/"
    assert await checker.run(HttpCheck(url=url), WEB) == f"http {url}: no answer within 0.2 s"


async def test_what_the_server_does_not_have_cannot_be_filled_in(checker: NetworkChecker) -> None:
    bare = Server(id=ServerId("x"), name="bare")
    why = await checker.run(HttpCheck(url="http://{server.private_ip}/"), bare)
    assert why == "server bare has no private ip"


async def test_a_secret_in_a_url_is_not_repeated(checker: NetworkChecker) -> None:
    register("hunter2-in-the-url")
    check = HttpCheck(url=f"http://127.0.0.1:{closed_port()}/?key=hunter2-in-the-url")
    why = await checker.run(check, WEB)
    assert why is not None
    assert "hunter2" not in why
    assert MARK in why


# -- commands -------------------------------------------------------------------------------------------


def python(code: str, *words: str, timeout_s: float = 30.0) -> CommandCheck:
    return CommandCheck(argv=(sys.executable, "-c", code, *words), timeout_s=timeout_s)


NAME = os.path.basename(sys.executable)  # noqa: PTH119  # a word of a message


async def test_a_command_that_ends_with_0_passes(checker: NetworkChecker) -> None:
    assert await checker.run(python("print('fine')"), WEB) is None


async def test_one_that_does_not_says_its_last_line(checker: NetworkChecker) -> None:
    check = python("import sys; print('first'); print('broken', file=sys.stderr); sys.exit(3)")
    assert await checker.run(check, WEB) == f"command {NAME}: ended with 3: broken"
    assert await checker.run(python("raise SystemExit(3)"), WEB) == f"command {NAME}: ended with 3"


async def test_it_gets_the_facts_in_its_arguments_its_environment_and_on_its_standard_input(
    checker: NetworkChecker, tmp_path: Path
) -> None:
    code = (
        "import json, os, sys; json.dump({'argv': sys.argv[1:], 'stdin': json.load(sys.stdin), 'env': "
        "{k: v for k, v in os.environ.items() if k.startswith('FLEET_SERVER_')}, 'cwd': os.getcwd()}, "
        "open('out.json', 'w'))"
    )
    assert (
        await checker.run(python(code, "{server.name}", "{server.private_ip}", "; rm -rf {x}"), WEB) is None
    )
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["argv"] == ["web-1", "127.0.0.1", "; rm -rf {x}"], "no shell, nothing else is replaced"
    assert found["stdin"]["public_ip"] == "198.51.100.7"
    assert found["env"] == {f"FLEET_SERVER_{key.upper()}": value for key, value in found["stdin"].items()}
    assert os.path.samefile(found["cwd"], tmp_path)  # noqa: ASYNC240, PTH121  # nothing else runs


async def test_a_command_that_does_not_read_its_input_is_no_error(checker: NetworkChecker) -> None:
    assert await checker.run(python("import os; os.close(0)"), WEB) is None


async def test_output_is_redacted_before_it_is_cut(checker: NetworkChecker) -> None:
    """The cut would otherwise leave half of the secret, which nothing recognizes any more."""
    secret = "S3cret-" + "x" * 60
    register(secret)
    lead = "a" * (KEPT_LINE - 20)
    why = await checker.run(python(f"print('{lead}' + '{secret}' + 'b' * 9999); raise SystemExit(1)"), WEB)
    assert why is not None
    assert "S3cret" not in why
    assert why.endswith((lead + MARK + "b" * 999)[:KEPT_LINE])


async def test_output_that_is_no_text(checker: NetworkChecker) -> None:
    why = await checker.run(python("import os; os.write(1, bytes([255, 10])); os._exit(1)"), WEB)
    assert why == f"command {NAME}: ended with 1: \N{REPLACEMENT CHARACTER}"


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> bool:
    for _ in range(100):
        if not is_alive(pid):
            return True
        await asyncio.sleep(0.02)
    return False


PARENT = (
    "import subprocess, sys, time; "
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "open('pid', 'w').write(str(child.pid)); open('ready', 'w'); time.sleep({})"
)


async def test_a_command_that_takes_too_long_is_killed_with_everything_that_it_started(
    checker: NetworkChecker, tmp_path: Path
) -> None:
    why = await checker.run(python(PARENT.format(600), timeout_s=2.0), WEB)
    assert why == f"command {NAME}: not done within 2 s"
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_a_check_that_is_cancelled_leaves_no_process(checker: NetworkChecker, tmp_path: Path) -> None:
    task = asyncio.create_task(checker.run(python(PARENT.format(600)), WEB))
    while not (tmp_path / "ready").exists():  # noqa: ASYNC110  # another process makes it
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_a_command_that_cannot_be_started(checker: NetworkChecker, tmp_path: Path) -> None:
    why = await checker.run(CommandCheck(argv=("/no/such/check",)), WEB)
    assert why == "command check: cannot be started: No such file or directory"
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(stat.S_IRUSR)
    why = await checker.run(CommandCheck(argv=(str(script),)), WEB)
    assert why == "command script: cannot be started: Permission denied"


async def test_a_fact_that_cannot_be_an_argument_is_a_reason_not_a_crash(checker: NetworkChecker) -> None:
    odd = Server(id=ServerId("x"), name="nul\0")
    assert await checker.run(python("pass", "{server.name}"), odd) == "embedded null byte"


async def test_a_command_gets_no_secret_in_its_environment(
    checker: NetworkChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever variable holds one, alone or inside something longer."""
    register("kept-from-checks-7f3a")
    monkeypatch.setenv("OS_PASSWORD", "kept-from-checks-7f3a")
    monkeypatch.setenv("PROXY", "http://me:kept-from-checks-7f3a@proxy")
    monkeypatch.setenv("HARMLESS", "yes")
    code = (
        "import os, sys; found = any("
        "'checks-7f3a' in value for value in os.environ.values()); "
        "sys.exit(found or 'HARMLESS' not in os.environ)"
    )
    assert await checker.run(python(code), WEB) is None
