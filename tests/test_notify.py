"""Notifications get to a webhook or a command, are tried again, are told once, and hold nothing up."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from receiver import SECRET_PATH, Receiver, receiver

from fleet import secrets
from fleet.core.settings import Notify, SecretRef
from fleet.notify import Courier, Message, Pauses, send
from fleet.told import Failure, Told

QUICK = Pauses(first_s=0.01, longest_s=0.05, in_all_s=5.0, linger_s=0.5, asked_s=0.05)
AT = datetime(2026, 12, 5, 20, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with secrets.set_aside():
        yield


def message(key: str = "r/held/1", event: str = "held", words: str = "web is held") -> Message:
    data = {"event": event, "title": words, "plan": "web", "run": "r", "figures": {"failed": 3}}
    return Message(frozenset({key}), event, words, data, {"text": words})


class Story:
    """A courier with what is due, and what it says."""

    def __init__(self, folder: Path, notify: Notify, *messages: Message, pauses: Pauses = QUICK) -> None:
        self.due = list(messages)
        self.log: list[tuple[str, str | None]] = []
        self.told = Told(folder / "plans" / "web.told.json")
        self.courier = Courier(
            notify,
            due=lambda told: [each for each in self.due if not each.keys <= told],
            told=self.told,
            folder=str(folder),
            log=lambda _to, told, why: self.log.append((told.title, why)),
            pauses=pauses,
        )
        self.courier.look()

    async def until(self, wanted: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not wanted():  # noqa: ASYNC110 - of several things, one in another thread
                await asyncio.sleep(0.005)


def webhook(monkeypatch: pytest.MonkeyPatch, found: Receiver, **more: object) -> Notify:
    monkeypatch.setenv("HOOK", found.url)
    return Notify(webhook=SecretRef(env="HOOK"), **more)  # type: ignore[arg-type]


async def test_it_is_told_once_and_known_to_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as found:
        notify = webhook(monkeypatch, found)
        story = Story(tmp_path, notify, message(), message("r/held/1"), message("r/failed/x", "failed"))
        await story.until(lambda: len(story.log) == 2)
        await story.courier.close()
        again = Story(tmp_path, notify, message(), message("r/failed/x", "failed"))
        await again.courier.close()
        assert found.bodies == [{"text": "web is held"}] * 2, "one of them has two due messages"
        assert found.types == ["application/json"] * 2
        assert again.log == []


FAULTS = [
    pytest.param((503, 503), id="5xx"),
    pytest.param(((429, {"Retry-After": "1"}, b"slow down"),), id="429"),
    pytest.param(("hang up", "hang up"), id="no answer"),
]


@pytest.mark.parametrize("script", FAULTS)
async def test_what_may_work_later_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: tuple[object, ...]
) -> None:
    with receiver(*script) as found:
        story = Story(tmp_path, webhook(monkeypatch, found), message())
        await story.until(lambda: story.log)
        assert story.log == [("web is held", None)]
        assert len(found.bodies) == len(script) + 1
        assert story.told.failures() == []
        await story.courier.close()


async def test_nobody_listens_and_then_somebody_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused connections are tried again too; given up in between, it is told with the next news."""
    with receiver() as found:
        url = found.url
    monkeypatch.setenv("HOOK", url)
    story = Story(
        tmp_path, Notify(webhook=SecretRef(env="HOOK")), message(), pauses=replace(QUICK, in_all_s=0.1)
    )
    await story.until(lambda: story.log)
    assert story.log[0][1] is not None
    assert "no connection" in story.log[0][1]
    assert [failure.event for failure in story.told.failures()] == ["held"]
    with receiver() as found:
        monkeypatch.setenv("HOOK", found.url)
        story.due.append(message("r/failed/x", "failed", "x failed"))
        story.courier.look()
        await story.until(lambda: len(story.log) == 3)
        assert [body["text"] for body in found.bodies] == ["x failed", "web is held"]
        assert story.told.failures() == [], "what was delivered after all is no failure"
        await story.courier.close()


@pytest.mark.parametrize("status", [400, 403, 404, 302])
async def test_what_will_never_work_is_given_up_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    said = f"no_service at {SECRET_PATH}".encode()
    with receiver(otherwise=(status, {"Location": "http://127.0.0.1:1/"}, said)) as found:
        story = Story(tmp_path, webhook(monkeypatch, found), message())
        await story.until(lambda: story.log)
        assert len(found.bodies) == 1
        (failure,) = story.told.failures()
        assert failure.why.startswith(f"HTTP {status}: no_service")
        assert failure.to == "the webhook from environment variable HOOK"
        await story.courier.close()
        assert len(found.bodies) == 2, "once more at the end: somebody may have mended it"
        assert "hunter2" not in f"{story.log} {(tmp_path / 'plans/web.told.json').read_text()}"


async def test_the_end_waits_a_little_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that is down costs the linger time, once, and what was not delivered is on the disk."""
    with receiver(otherwise=503) as found:
        story = Story(
            tmp_path, webhook(monkeypatch, found), *(message(f"r/held/{n}") for n in range(5)), pauses=QUICK
        )
        await story.until(lambda: found.bodies)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await story.courier.close()
        assert loop.time() - began < QUICK.linger_s + 5, "patience: two busy cores"
        assert len(story.told.failures()) >= 1
        known = json.loads((tmp_path / "plans/web.told.json").read_text())
        assert len(known["failed"]["the webhook from environment variable HOOK"]) == 5


async def test_a_pause_is_cut_short_by_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends while an hour's pause goes on: the last words are sent at once."""
    with receiver(503) as found:
        slow = Pauses(first_s=3600.0, longest_s=3600.0, in_all_s=1e6, linger_s=30.0)
        story = Story(tmp_path, webhook(monkeypatch, found), message(), pauses=slow)
        await story.until(lambda: found.bodies)
        await story.courier.close()
        assert len(found.taken) == 1


async def test_what_is_not_so_any_more_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Released while the receiver was down: nobody hears of the hold; of three failed ones, one message."""
    with receiver(otherwise=503) as found:
        story = Story(tmp_path, webhook(monkeypatch, found), message())
        await story.until(lambda: found.bodies)
        keys = frozenset({"r/failed/1", "r/failed/2", "r/failed/3"})
        story.due = [Message(keys, "failed", "3 servers failed", {}, {"text": "3 servers failed"})]
        found.otherwise = 200
        await story.until(lambda: story.log)
        await story.courier.close()
        assert found.taken == [{"text": "3 servers failed"}]
        assert story.told.keys(story.courier.to) == keys


async def test_a_defect_of_ours_is_said_and_raised_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as found:
        story = Story(tmp_path, webhook(monkeypatch, found))

        def broken(_: object) -> list[Message]:
            raise KeyError("x")

        story.courier._due = broken
        await story.courier.close()
        assert story.log == [("", "a defect of fleet (KeyError: 'x')")]


async def test_only_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as found:
        story = Story(
            tmp_path, webhook(monkeypatch, found, on=("failed",)), message(), message("r/failed/x", "failed")
        )
        await story.courier.close()
        assert len(found.bodies) == 1


async def test_a_command_is_told_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts in variables, JSON on standard input; 75 asks to be called again, anything else is final."""
    monkeypatch.setenv("PAGER_TOKEN", "t-1")
    monkeypatch.setenv("OS_PASSWORD", "hunter2")
    script = tmp_path / "page"
    script.write_text(
        "#!/bin/sh\ncat >> in.jsonl\necho >> in.jsonl\n"
        'echo "$FLEET_EVENT|$FLEET_TITLE|$FLEET_PLAN|$PAGER_TOKEN|$OS_PASSWORD" >> env\n'
        "[ $(wc -l < env) -gt 1 ] || exit 75\n"
    )
    script.chmod(0o755)
    story = Story(tmp_path, Notify(command=(str(script),), env=("PAGER_TOKEN",)), message())
    await story.until(lambda: story.log)
    await story.courier.close()
    assert story.log == [("web is held", None)]
    assert (tmp_path / "env").read_text() == "held|web is held|web|t-1|\n" * 2
    lines = (tmp_path / "in.jsonl").read_text().split("\n")
    assert json.loads(lines[0])["figures"] == {"failed": 3}
    script.write_text("#!/bin/sh\necho no credit left >&2\nexit 3\n")
    answer = await send(Notify(command=(str(script),)), message(), str(tmp_path))
    assert answer.why == "command page: ended with 3: no credit left"
    assert not answer.again


BAD_URLS = ["", "hooks.slack.com/x", "file:///etc/passwd", "http://", "https://a b/", "http://[::1"]


@pytest.mark.parametrize("url", BAD_URLS)
async def test_what_is_no_url_is_said_without_showing_it(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HOOK", url)
    answer = await send(Notify(webhook=SecretRef(env="HOOK")), message(), "/")
    assert answer.why is not None
    assert not answer.again
    assert "HOOK" in answer.why
    assert not url or url not in answer.why


async def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    answer = await send(Notify(webhook=SecretRef(env="HOOK")), message(), "/")
    assert answer.why == "environment variable HOOK is not set"


def test_pauses_grow_and_are_spread() -> None:
    import random  # noqa: PLC0415 - of this test alone

    rng = random.Random(1)
    drawn = [[Pauses().after(attempt, rng) for _ in range(50)] for attempt in range(10)]
    for attempt, some in enumerate(drawn):
        whole = min(60.0, 2.0**attempt)
        assert whole / 2 <= min(some) < max(some) <= whole
    assert len({round(pause, 3) for pause in drawn[5]}) > 10


# -- the file -------------------------------------------------------------------------------------------


def test_the_file_is_its_owners_and_survives_what_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "state" / "plans" / "p.told.json"
    told = Told(path)
    told.deliver("a", {"r/x"}, AT)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700], "the state folder too, if it was not there yet"
    assert told.keys("a") == {"r/x"}
    assert told.keys("b") == set()
    path.write_text("not JSON")
    assert told.keys("a") == set(), "then it is told once more"
    told.deliver("a", {"r/y"}, AT)
    assert Told(path).keys("a") == {"r/y"}


def test_old_runs_are_forgotten_and_the_present_one_is_not(tmp_path: Path) -> None:
    """A finished run that cron looks at every night is not told of again after two months."""
    told = Told(tmp_path / "p.told.json")
    told.deliver("a", {"old-run/x"}, AT)
    told.deliver("a", {"r/x"}, AT)
    told.deliver("a", {"r/y"}, AT + timedelta(days=61))
    assert told.keys("a") == {"r/x", "r/y"}


def test_what_is_over_is_no_failure_any_more(tmp_path: Path) -> None:
    told = Told(tmp_path / "p.told.json")
    for to, key in (("a", "r/held/1"), ("a", "r/held/2"), ("gone", "r/held/1")):
        told.fail({key}, Failure(to=to, event="held", title=key, why="HTTP 503", at=AT))
    told.forget({"a"}, {"r/held/1"})
    assert [(each.to, each.title) for each in told.failures()] == [("a", "r/held/1")]
