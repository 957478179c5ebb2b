"""`fleet watch` over real HTTP: who gets in, what a page is told, and that it runs nothing foreign."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import TestServer
from support import AT, event_for, make_run

from fleet.cli.common import clean
from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.errors import PlanError, Problem
from fleet.journal import Journal
from fleet.runs import lock_run
from fleet.secrets import register
from fleet.watch.live import Live
from fleet.watch.server import Watch, Wish
from fleet.watch.session import Session, is_ours

HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"
SECRET = "hunter2-and-more"
WAY = (ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled, ev.Started)
END = (ev.ChecksPassed, ev.Verified)


class Scene:
    """A journal that grows, `fleet watch` of it, and a browser that may or may not have the cookie."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "r" / "journal.jsonl"
        self.path.parent.mkdir()
        self.journal = Journal.create(self.path)
        self.at = AT
        self.orders: list[Wish] = []
        self.streams: list[aiohttp.ClientResponse] = []
        self.lock = lock_run(self.path)  # a process works on it
        self.refuse = ""
        opened = make_run(4, waves=(2, 2)).opened
        first = msgspec.structs.replace(opened.members[0], name=HOSTILE)
        self.write(msgspec.structs.replace(opened, members=(first, *opened.members[1:])))

    def write(self, *events: ev.Event) -> None:
        for event in events:
            self.at += timedelta(seconds=1)
            self.journal.append(event, self.at)

    def give(self, wish: Wish) -> str:
        if self.refuse:
            raise PlanError(Problem(self.refuse, hint="do as told"))
        self.orders.append(wish)
        return "done"

    async def serve(self, *, read_only: bool = False) -> None:
        live = Live(self.path, clean=clean)
        self.watch = Watch(live, None if read_only else self.give, now=lambda: self.at)
        self.server = TestServer(self.watch.application())
        await self.server.start_server()
        self.url = f"http://127.0.0.1:{self.server.port}"
        self.browser = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.key = ""

    async def enter(self) -> aiohttp.ClientResponse:
        answer = await self.post("/session", {"token": self.watch.session.token})
        self.key = (await answer.json()).get("key", "")
        return answer

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        return await self.browser.get(self.url + path, headers=headers)

    async def post(self, path: str, body: object, **headers: str) -> aiohttp.ClientResponse:
        headers = {"Origin": self.url, "X-Fleet-Key": self.key if hasattr(self, "key") else ""} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return await self.browser.post(self.url + path, json=body, headers=headers)

    async def close(self) -> None:
        self.journal.close()
        self.lock.release()
        for stream in self.streams:
            stream.close()
        await self.browser.close()
        await self.server.close()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    await made.serve()
    yield made
    await made.close()


async def words(answer: aiohttp.ClientResponse) -> str:
    return (await answer.json())["error"]


async def news(
    scene: Scene, path: str = "/events?after=1", **headers: str
) -> tuple[aiohttp.ClientResponse, Any]:
    answer = await scene.get(path, **headers)
    assert answer.status == 200, await answer.text()
    scene.streams.append(answer)
    assert (await answer.content.readline()) == b"retry: 500\n"

    async def following() -> tuple[int, dict[str, Any]]:
        number = -1
        async with asyncio.timeout(20):
            while True:
                line = (await answer.content.readline()).decode()
                assert line, "the stream has ended"
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("data: "):
                    return number, json.loads(line[6:])

    return answer, following


ORDER = {"verb": "hold", "reason": "INC-1"}


async def test_nothing_is_shown_without_the_cookie(scene: Scene) -> None:
    """Every path but those that need none says 403 and why, and no page shows a server's name."""
    for path in ("/", "/events", "/orders", "/nothing", "/session"):
        answer = await scene.get(path)
        assert answer.status in {403, 405}, path
        text = await answer.text()
        assert "web-2" not in text
        assert "fleet watch" in text or answer.status == 405, path
    assert (await scene.post("/orders", ORDER)).status == 403
    assert scene.orders == []


async def test_the_token_is_good_once(scene: Scene) -> None:
    token = scene.watch.session.token
    assert (await scene.post("/session", {"token": "x" + token})).status == 403
    entered = await scene.enter()
    assert entered.status == 200
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert token not in cookie
    again = await scene.post("/session", {"token": token})
    assert again.status == 403
    assert "used before" in await words(again)
    page = await scene.get("/")
    assert page.status == 200
    assert token not in await page.text()
    assert scene.key not in await page.text(), "a page of another port gets our cookie: the key is not for it"
    assert "Set-Cookie" not in page.headers


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:80", True), ("localhost:9", True), ("127.0.0.1", True), ("[::1]:80", True),
        ("evil.example", False), ("127.0.0.1.evil.example:80", False), ("localhost.evil.example", False),
        ("10.0.0.1:80", False), ("", False), ("[::1", False),
    ],
)  # fmt: skip
async def test_a_foreign_name_that_leads_here_is_refused(scene: Scene, host: str, *, ours: bool) -> None:
    assert is_ours(host) is ours
    await scene.enter()
    if host and host != "[::1":
        for path in ("/", "/metrics", "/events"):
            answer = await scene.get(path, Host=host)
            # The cookie jar goes by the address, so it is sent along as a rebound browser would not do.
            assert answer.status == (200 if ours else 403), path
            scene.streams.append(answer)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:1", "https://127.0.0.1"]
)
async def test_a_foreign_page_gives_no_orders(scene: Scene, origin: str) -> None:
    """Not with the cookie, not with the key: a page of another port on this machine is foreign, too."""
    await scene.enter()
    assert (await scene.post("/orders", ORDER, Origin=origin)).status == 403
    assert (await scene.post("/session", {"token": scene.watch.session.token}, Origin=origin)).status == 403
    assert scene.orders == []


async def test_an_order_needs_the_key_and_a_reason(scene: Scene) -> None:
    await scene.enter()
    assert "only the tab" in await words(await scene.post("/orders", ORDER, X_Fleet_Key="x"))
    for body in (
        {"verb": "hold", "reason": "  "}, {"verb": "hold"}, {"verb": "retry", "reason": "x"},
        {"verb": "hold", "reason": "a\nb"}, {"verb": "hold", "reason": "x" * 501},
        {"verb": "hold", "reason": "x", "y": 1},
    ):  # fmt: skip
        answer = await scene.post("/orders", body)
        assert answer.status == 400, body
    plain = await scene.browser.post(
        scene.url + "/orders",
        data=json.dumps(ORDER),
        headers={"Origin": scene.url, "X-Fleet-Key": scene.key, "Content-Type": "text/plain"},
    )
    assert plain.status == 415, "what a form could send is none"
    assert scene.orders == []
    answer = await scene.post("/orders", {"verb": "approve", "reason": " ok ", "target": "web", "wave": 1})
    assert await answer.json() == {"words": "done"}
    assert scene.orders == [Wish(verb="approve", reason="ok", target="web", wave=1)]
    scene.refuse = "it is finished"
    refused = await scene.post("/orders", ORDER)
    assert refused.status == 409
    assert re.fullmatch(r"it is finished\W+hint: do as told", await words(refused))


async def test_read_only_takes_no_orders(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    await scene.serve(read_only=True)
    try:
        await scene.enter()
        page = await (await scene.get("/")).text()
        assert "data-verb=" not in page.split("<script")[0]
        answer = await scene.post("/orders", ORDER)
        assert (answer.status, "--read-only" in await words(answer)) == (403, True)
    finally:
        await scene.close()


async def test_a_page_runs_nothing_foreign_and_shows_no_secret(scene: Scene) -> None:
    register(SECRET)
    scene.write(
        event_for(ev.Admitted, ServerId("web-1")),
        ev.Failed(server=ServerId("web-1"), reason=f"{HOSTILE} with {SECRET}\u202e", code="<b>"),
        ev.RunHeld(reason=f"{HOSTILE} {SECRET}", by=HOSTILE),
    )
    await scene.enter()
    answer = await scene.get("/")
    page = await answer.text()
    _, following = await news(scene)
    _, message = await following()
    told = json.dumps(message)
    assert HOSTILE[:10] in message["state"].pop("held"), "words for textContent, as they are"
    message["state"].pop("word")
    for text in (page, told, json.dumps(message), await (await scene.get("/metrics")).text()):
        assert SECRET not in text
        assert "\u202e" not in text
        assert text is told or "<img" not in text
        assert text is told or "alert(2)</script>" not in text
    assert "&lt;img src=x" in page
    policy = answer.headers["Content-Security-Policy"]
    (nonce,) = re.findall(r"script-src 'nonce-([^']+)'", policy)
    assert "default-src 'none'" in policy
    assert page.count(f'nonce="{nonce}"') == 2
    assert page.count("<script") == 1
    assert answer.headers["Cache-Control"] == "no-store"
    second = await scene.get("/")
    assert nonce not in second.headers["Content-Security-Policy"], "good for one page"


async def test_a_page_is_told_what_changed_and_nothing_else(scene: Scene) -> None:
    """One server moved: its row comes, and the pieces that count it; ids are the journal's lines."""
    await scene.enter()
    _, following = await news(scene)
    number, message = await following()
    assert number == 1
    assert set(message["parts"]) >= {"summary", "waiting"}
    assert "4</b> never touched" in message["parts"]["summary"]
    scene.write(event_for(ev.Admitted, ServerId("web-2")))
    while "rows" not in message or not message["rows"]:
        number, message = await following()
    assert number == 2
    assert [row[1] for row in message["rows"] if row[2]] == [1]
    (row,) = [row for row in message["rows"] if row[2]]
    assert row[0] == 0
    assert 'data-p="stopping"' in row[2]
    assert "stopping since" in row[3]
    assert "times" not in message["parts"]
    quiet = (await following())[1]
    assert set(quiet) == {"now", "broken"}, "nothing happened: only that it still lives"


async def test_a_page_that_comes_back_is_told_what_it_missed(scene: Scene) -> None:
    """`Last-Event-ID` is the last line that it has seen: rows that changed then, or later, are told again."""
    await scene.enter()
    looks = (
        [event_for(ev.Admitted, ServerId("web-2"))],
        [event_for(kind, ServerId("web-2")) for kind in (*WAY[1:], *END)],
        [event_for(ev.Admitted, ServerId("web-1"))],
    )
    (await scene.get("/")).close()
    for events in looks:
        scene.write(*events)
        (await scene.get("/")).close()
    for last, rows in (("2", [0, 1]), ("9", [0, 1]), ("10", [0])):
        _, following = await news(scene, **{"Last-Event-ID": last})
        number, message = await following()
        assert number == 10
        assert sorted({row[1] for row in message["rows"] if row[2]}) == rows, last
        assert "waves" not in message
    _, following = await news(scene, **{"Last-Event-ID": "no number"})
    assert "waves" in (await following())[1], "everything, then"


async def test_a_replaced_journal_is_said_and_not_shown_on(scene: Scene) -> None:
    await scene.enter()
    _, following = await news(scene)
    assert (await following())[1]["broken"] is None
    scene.path.write_bytes(b"{}\n")
    message: dict[str, Any] = {"broken": None}
    while message["broken"] is None:
        message = (await following())[1]
    assert "shorter" in message["broken"]
    assert (await scene.get("/metrics")).status == 500


async def test_metrics_need_no_cookie_and_name_no_server(scene: Scene) -> None:
    scene.write(event_for(ev.Admitted, ServerId("web-2")))
    answer = await scene.get("/metrics")
    text = await answer.text()
    assert answer.status == 200
    assert answer.content_type == "text/plain"
    assert re.search(r'^fleet_servers\{.*phase="stopping".*\} 1$', text, re.MULTILINE), text
    assert "web-2" not in text


def test_sessions_of_two_processes_do_not_mix() -> None:
    one, other = Session(), Session()
    assert one.cookie != other.cookie
    assert other.exchange(one.token) is None
    found = one.exchange(one.token)
    assert found is not None
    assert one.may_steer({one.cookie: found[0]}, found[1])
    assert not one.may_steer({}, found[1])
    assert not one.may_steer({one.cookie: found[0]}, found[0])
    assert not one.may_look({other.cookie: found[0]})


@pytest.mark.parametrize(
    ("events", "no"),
    [
        ([], {"release", "approve"}),
        ([ev.RunDrained(reason="x")], {"release", "approve", "drain"}),
        ([ev.RunHeld(reason="x")], {"hold", "approve"}),
        ([ev.RunHeld(reason="x"), ev.RunReleased(reason="y", by="z")], {"release", "approve"}),
        (
            [event_for(ev.Skipped, ServerId(f"web-{n}")) for n in (1, 2, 3, 4)],
            {"hold", "release", "approve", "drain"},
        ),
    ],
)  # fmt: skip
async def test_orders_that_make_no_sense_now_say_why(
    scene: Scene, events: list[ev.Event], no: set[str]
) -> None:
    scene.write(*events)
    await scene.enter()
    _, following = await news(scene)
    assert set((await following())[1]["state"]["no"]) == no


async def test_a_held_run_s_page_says_when_those_in_flight_settle(scene: Scene) -> None:
    scene.write(event_for(ev.Admitted, ServerId("web-2")), ev.RunHeld(reason="INC-4711", by="ann"))
    await scene.enter()
    _, following = await news(scene)
    summary = (await following())[1]["parts"]["summary"]
    assert "1 in flight settles nobody knows when (no durations known yet" in summary
    assert "1 not wiped yet is put back" in summary
    scene.write(ev.RunReleased(reason="over", by="ann"))
    assert "settles" not in (await following())[1]["parts"]["summary"]


async def test_a_process_that_dies_is_seen_although_it_writes_nothing(scene: Scene) -> None:
    """A lock that is seen for one look only, as an order to a run at rest takes it, is no process."""
    live = Live(scene.path, clean=clean)

    def word() -> str:
        live.look(scene.at)
        return live.message(None, 0)["state"]["word"]

    assert word().startswith("running")
    scene.lock.release()
    assert [word(), word()][-1] == "unfinished: its process has ended"
    lock = lock_run(scene.path)
    assert word().startswith("unfinished")
    lock.release()
    assert word().startswith("unfinished")
    scene.lock = lock_run(scene.path)
    assert [word(), word()][-1].startswith("running")
