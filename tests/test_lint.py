"""What a plan says without meaning it: each sentence for a plan that deserves it, and none for a good one."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from test_survey import SmallCloud, look, plan, server, target

from fleet.core.settings import (
    Around,
    Budget,
    CommandCheck,
    Hooks,
    Limits,
    NeverMoreThan,
    Reinstall,
    Rollout,
    Settings,
    Share,
    SshCheck,
    TcpCheck,
    Verify,
    Window,
)
from fleet.core.windows import Schedule
from fleet.report.outlook import outlook

GOOD = {
    "expect_max": 100,
    "verify": Verify(checks=(CommandCheck(argv=("joined",)),)),
    "rollout": Rollout(waves=(3, 10), concurrency=10, hold_after=1),
}


def said(settings: Settings, count: int = 33) -> str:
    servers = [
        server(f"web-{n}", zone=f"z{n % 2}", key_pair="kp", tags={"rack": str(n % 14)} if n else {})
        for n in range(count)
    ]
    return "\n".join(str(finding) for finding in look(SmallCloud(*servers), settings).oddities)


def with_(**fields) -> Settings:
    return plan(target(**(GOOD | fields)))


@pytest.mark.parametrize(
    "rollout",
    [
        Rollout(waves=(1, 10), hold_after=1, approve_after=(1,)),
        Rollout(waves=(2, 10), hold_after=2, in_a_row=2),
    ],
)
def test_a_first_wave_that_may_fail_but_stops_the_rest_is_no_news(rollout: Rollout) -> None:
    assert "wave 1 fail" not in said(with_(rollout=rollout))


def test_a_good_plan_is_not_nagged() -> None:
    assert said(with_()) == ""


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            with_(
                rollout=Rollout(
                    waves=(3, 30), concurrency=20, hold_after=1, spread={"availability_zone": 7}
                )
            ),
            "`spread` over availability_zone makes `concurrency: 20` never exceed 14",
        ),
        (
            with_(
                rollout=Rollout(
                    waves=(3, 30), concurrency=20, hold_after=1,
                    never_more_than=NeverMoreThan(at_least=4, of_verified=20),
                )
            ),
            "`never_more_than` never lets more than 5 be in flight, so `concurrency: 20` is a dead letter",
        ),
        (
            with_(
                rollout=Rollout(
                    waves=(3, 30), concurrency=20, hold_after=1, max_unavailable=Share(percent=25)
                )
            ),
            "`max_unavailable: 25%` makes `concurrency: 20` never exceed 8",
        ),
        (
            with_(rollout=Rollout(waves=(3, 5), concurrency=20, hold_after=1)),
            "no wave has more than 5 servers, so `concurrency: 20` is never reached",
        ),
        (
            with_(rollout=Rollout(waves=(1, 10), hold_after=1)),
            "lets the whole of wave 1 fail (1 of 1), and wave 2 starts all the same",
        ),
        (with_(rollout=Rollout(waves=(3, 10), hold_after=40)), "all 33 servers fail: nothing ever holds"),
        (with_(rollout=Rollout(waves=(3, 10))), "the first failure of 33 servers holds, in wave 1 as in the"),
        (
            with_(rollout=Rollout(waves=(3, 10), hold_after=1, in_a_row=5)),
            "`in_a_row: 5` is a dead letter: the 2nd failure holds",
        ),
        (
            with_(rollout=Rollout(waves=(3, 10), hold_after=1, approve_after=(1, 4))),
            "`approve_after: [4]` never asks: there are 4 waves",
        ),
        (with_(rollout=Rollout(waves=(50,), hold_after=1, bake_s=60)), "`bake` never happens: there is 1"),
        (
            with_(rollout=Rollout(waves=(3, 10), hold_after=1, spread={"tag:rack": 5})),
            "`spread` over tag:rack: 1 server of 33 lacks it and count as one group (web-0)",
        ),
        (
            with_(rollout=Rollout(waves=(3, 10), hold_after=1, order=("tag:rack",))),
            "`order` by tag:rack: 1 server of 33 lacks it and come last",
        ),
        (with_(verify=Verify()), "no `checks`: a server counts as verified as soon as it is up"),
        (
            with_(verify=Verify(checks=(TcpCheck(port=22), SshCheck()))),
            "`tcp: 22`, `ssh: 22` would also pass on the old system",
        ),
        (with_(expect_max=None), "no `expect`"),
        (
            with_(hooks=Hooks(around_server=(Around(do=("./drain",), undo=("true",)),))),
            "nothing returns what `do: drain` does: its undo is `true`",
        ),
        (
            with_(hooks=Hooks(around_server=(Around(do=("./pool",), undo=("./pool",)),))),
            "`do` and `undo` are the same command",
        ),
        (
            with_(reinstall=Reinstall(key_pair="kp", mode="with-stop-server")),
            "takes away the cloud's own guard",
        ),
        (
            with_(reinstall=Reinstall(key_pair="kq")),
            "key pair 'kq' is on none of the project's 33 servers; these have 'kp' now",
        ),
        (
            msgspec.structs.replace(with_(), limits=Limits(draining=3)),
            "`limits.draining` bounds nothing: no target has `around_server` hooks",
        ),
        (
            msgspec.structs.replace(
                with_(rollout=Rollout(waves=(3, 10), hold_after=5, in_a_row=2)), budget=Budget(in_a_row=4)
            ),
            "`failures.in_a_row` of the plan is a dead letter",
        ),
    ],
)  # fmt: skip
def test_consequences(settings: Settings, sentence: str) -> None:
    assert sentence in said(settings)


def ahead(window: Window, now: datetime):
    found = look(SmallCloud(*(server(f"web-{n}") for n in range(3))), with_())
    return outlook(found, now, schedule=Schedule((window,)))


def test_the_night_on_which_the_clocks_change() -> None:
    night = Window(start="22:00", end="04:00", timezone="Europe/Berlin", days=("sat",))
    long = with_(reinstall=Reinstall(key_pair="kp", timeout_s=600.0, attempts=1))
    found = look(SmallCloud(server("web-1")), long)
    for now, sentence in (
        (
            datetime(2026, 10, 20, tzinfo=UTC),
            "22:00-04:00 is 7 h long on 24 October, not 6 h: the clocks change",
        ),
        (
            datetime(2027, 3, 20, tzinfo=UTC),
            "22:00-04:00 is 5 h long on 27 March, not 6 h: the clocks change",
        ),
    ):
        seen = outlook(found, now, schedule=Schedule((night,)))
        assert [finding.message for finding in seen.findings()] == [sentence]
        assert seen.expected.at is not None


def test_a_window_that_no_server_fits_into() -> None:
    """As long as nothing was seen, the time-outs are reckoned with; later what was seen."""
    night = Window(start="22:00", end="22:40", timezone="UTC")
    now = datetime(2026, 12, 1, tzinfo=UTC)
    [finding] = ahead(night, now).findings()
    assert (
        "the longest window ahead is 40 min, shorter than one server's expected 3 h 45 min" in finding.message
    )
    assert "nothing will ever start" in finding.message
    found = look(SmallCloud(server("web-1")), with_())
    seen = [(("img", "", ""), 300.0)] * 20
    known = outlook(found, now, schedule=Schedule((night,)), seen=seen)
    assert list(known.findings()) == []
    assert known.expected.at == datetime(2026, 12, 1, 22, 5, tzinfo=UTC)
