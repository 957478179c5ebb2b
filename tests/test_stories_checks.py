"""Stories about the plan's own checks: they decide what verified means, together with the new disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from story_support import calm, reason, told

from fleet.core.events import ChecksPassed, Started
from fleet.core.facts import nonce_of
from fleet.core.model import Server
from fleet.core.settings import Check, NonceCheck, TcpCheck, UserData, Verify
from fleet.rehearsal import life
from fleet.rehearsal.stories import Story

Answer = Callable[[int], str | None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[str]]:
    """Have the checks answer by how often they were asked; return the servers asked about."""

    def give(answer: Answer) -> list[str]:
        asked: list[str] = []

        class Checker:
            async def run(self, check: Check, server: Server) -> str | None:
                assert isinstance(check, TcpCheck)
                asked.append(server.name)
                return answer(len(asked))

        monkeypatch.setattr(life, "PassingChecker", Checker)
        return asked

    return give


CHECKED = Verify(timeout_s=300.0, checks=(TcpCheck(port=22),))


def test_a_check_that_never_passes_fails_the_server_and_wipes_nobody_again(answers) -> None:
    """Reinstalled, up, with a new disk, and not good: not verified, with the check's own words."""
    asked = answers(lambda _: "tcp 10.0.0.1:22: connection refused")
    night = told(calm("web-1", verify=CHECKED))
    assert night.phases() == {"web-1": "failed"}
    assert "connection refused" in reason(night, "web-1")
    assert night.reinstalls() == {"web-1": 1}
    assert len(asked) > 3


def test_a_check_that_passes_late_is_waited_for(answers) -> None:
    """Cloud-init needs its minute: the first answers do not count against the server."""
    asked = answers(lambda nth: "too early" if nth < 6 else None)
    night = told(calm("web-1", verify=CHECKED))
    assert night.phases() == {"web-1": "verified"}
    assert len(asked) >= 7, "and once more, since one look proves nothing"


def test_stable_for_starts_anew_when_a_check_fails_in_between(answers) -> None:
    """Good for a while, then not, then good: only the last stretch counts."""
    answers(lambda nth: "flapped" if nth == 8 else None)
    night = told(
        calm("web-1", verify=Verify(timeout_s=600.0, checks=(TcpCheck(port=22),), stable_for_s=60.0))
    )
    assert night.phases() == {"web-1": "verified"}
    assert night.run is not None
    entries = life_entries(night.journal)
    took = entries[ChecksPassed.__name__] - entries[Started.__name__]
    assert took > 60.0 + 8 * 4, "the stretch before the flap does not count"


def life_entries(journal: bytes) -> dict[str, float]:
    """Return when each event was recorded, in seconds."""
    import json  # noqa: PLC0415 - for this helper alone
    from datetime import datetime  # noqa: PLC0415 - of this test alone

    lines = [json.loads(line) for line in journal.splitlines()]
    return {line["event"]: datetime.fromisoformat(line["at"]).timestamp() for line in lines}


TEMPLATE = b"#cloud-config\n# installed as {{ fleet.nonce }}\n"


@pytest.mark.parametrize("stale", [False, True])
def test_a_nonce_proves_whose_installation_it_is(monkeypatch: pytest.MonkeyPatch, *, stale: bool) -> None:
    """The check looks at what the cloud gave the server; an image with words of its own shows others."""
    found: dict[str, str] = {}

    class Checker:
        async def run(self, check: Check, server: Server) -> str | None:
            assert isinstance(check, NonceCheck)
            shown = "fleet nonce of last year" if stale else world.servers[server.id].user_data
            found[server.name] = check.expected
            return None if check.expected in shown else "another one"

    monkeypatch.setattr(life, "PassingChecker", Checker)
    digest = hashlib.sha256(TEMPLATE).hexdigest()
    data = UserData(kind="template", sha256=digest, size=len(TEMPLATE))
    story = calm(
        "web-1", "web-2", verify=Verify(timeout_s=60.0, checks=(NonceCheck(url="x"),)), user_data=data
    )
    world = story.world()
    monkeypatch.setattr(Story, "world", lambda _story: world)
    night = told(replace(story, user_data={digest: TEMPLATE}))
    assert set(night.phases().values()) == {"failed" if stale else "verified"}
    assert len(set(found.values())) == len(found)
    assert found["web-1"] == nonce_of("story-rehearsal", world.named("web-1").id)
