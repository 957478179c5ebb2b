"""Stories about the plan's own checks: they decide what verified means, together with the new disk."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from story_support import calm, reason, told

from fleet.core.events import ChecksPassed, Started
from fleet.core.model import Server
from fleet.core.settings import Check, TcpCheck, Verify
from fleet.rehearsal import life

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
    from datetime import datetime  # noqa: PLC0415

    lines = [json.loads(line) for line in journal.splitlines()]
    return {line["event"]: datetime.fromisoformat(line["at"]).timestamp() for line in lines}
