"""What a person agrees to: whom a run hits, in which waves, and at worst."""

from __future__ import annotations

import pytest

from fleet.cli.common import print_lines
from fleet.core.events import Member
from fleet.core.model import Call, Identity, Server, ServerId
from fleet.core.preflight import Finding
from fleet.core.rollout import cut_waves
from fleet.core.select import Resolution
from fleet.core.settings import (
    CloudSettings,
    Reinstall,
    Rollout,
    SecretRef,
    Select,
    Settings,
    Share,
    Target,
    UserData,
)
from fleet.errors import Problem
from fleet.report.preview import NO_CLAIM, as_data, as_text, worst_case
from fleet.survey import Survey

ME = Identity(user_id="u", user_name="deploy", project_id="p", project_name="p", cloud="iam eu-de")


def target(name: str = "web", **fields) -> Target:
    values = {
        "select": Select(name=("*",)),
        "rollout": Rollout(waves=(1, 5), concurrency=3, hold_after=2),
        "reinstall": Reinstall(key_pair="kp"),
    }
    return Target(name=name, **(values | fields))


def members(count: int, of: Target, call: Call = Call.REINSTALL_CLOUD_INIT) -> list[Member]:
    waves = [n for n, size in enumerate(cut_waves(count, of.rollout.waves), 1) for _ in range(size)]
    return [
        Member(id=ServerId(f"id-{of.name}-{n}"), name=f"{of.name}-{n}", target=of.name, wave=wave, call=call)
        for n, wave in enumerate(waves, 1)
    ]


def found(*targets: Target, count: int = 13, **fields) -> Survey:
    targets = targets or (target(),)
    chosen = [member for each in targets for member in members(count, each)]
    values = {
        "settings": Settings(
            plan="p", digest="", folder="/", cloud=CloudSettings(provider="ecs"), targets=targets
        ),
        "identity": ME,
        "resolution": Resolution(chosen={}, left_out={}),
        "members": tuple(chosen),
        "findings": (),
        "skipped": {},
        "passwords": {},
        "servers": {member.id: Server(id=member.id, name=member.name) for member in chosen},
    }
    return Survey(**(values | fields))


def lines(survey: Survey, **options) -> list[str]:
    return list(as_text(survey, **options))


@pytest.mark.parametrize(
    ("rollout", "count", "flying", "lost", "allowed"),
    [
        # One after another: the third failure holds, and nobody else is in flight.
        (Rollout(waves=(100,), concurrency=1, hold_after=2), 100, 1, 3, 2),
        # Ten at once: when the third fails, seven more may be lost.
        (Rollout(waves=(100,), concurrency=10, hold_after=2), 100, 10, 12, 2),
        # No wave is as big as the concurrency.
        (Rollout(waves=(4,), concurrency=10, hold_after=0), 100, 4, 4, 0),
        (Rollout(waves=(100,), concurrency=10, hold_after=50), 20, 10, 20, 50),
        (Rollout(waves=(100,), concurrency=10, hold_after=Share(percent=10)), 20, 10, 12, 2),
        (Rollout(), 0, 0, 0, 0),
    ],
)
def test_the_worst_case(rollout: Rollout, count: int, flying: int, lost: int, allowed: int) -> None:
    wanted = target(rollout=rollout)
    assert worst_case(wanted, members(count, wanted), count) == (flying, lost, allowed)


def test_what_a_person_reads() -> None:
    data = UserData(kind="file", sha256="x", size=17, path="/plans/web.yaml")
    wanted = target(reinstall=Reinstall(key_pair="kp", user_data=data))
    assert lines(found(wanted)) == [
        "cloud: iam eu-de, as deploy",
        "web: 13 servers in 4 waves (1, 5, 5, 2), at most 3 in flight; every system disk will be wiped",
        "  calls: 13 x reinstall-v2",
        "  login: key pair kp; user data: 17 bytes (/plans/web.yaml)",
        "  at worst: 3 in flight at once; 5 lost before it holds (the 3rd failure holds)",
        "  wave 1: web-1",
        "  wave 2: web-2, web-3, web-4, web-5, web-6",
        "  wave 3: web-7, web-8, web-9, web-10, web-11",
        "  wave 4: web-12, web-13",
        NO_CLAIM,
    ]


def test_a_password_is_not_in_it() -> None:
    wanted = target(reinstall=Reinstall(admin_password=SecretRef(env="PW")))
    survey = found(wanted, passwords={"web": "Secret-1234"})
    text = "\n".join(lines(survey))
    assert "login: an admin password; user data: none" in text
    assert "Secret-1234" not in text + str(as_data(survey))


@pytest.mark.parametrize(
    ("allowed", "word"), [(0, "1st"), (1, "2nd"), (10, "11th"), (11, "12th"), (20, "21st")]
)
def test_which_failure_holds(allowed: int, word: str) -> None:
    wanted = target(rollout=Rollout(hold_after=allowed))
    assert any(f"(the {word} failure holds)" in line for line in lines(found(wanted)))


def test_long_waves_are_cut_unless_all_is_wanted() -> None:
    wanted = target(rollout=Rollout(waves=(100,)))
    survey = found(wanted, count=50)
    assert "  wave 1: web-1, web-2, web-3, web-4, web-5, web-6, … web-50 (50)" in lines(survey)
    assert any("web-33" in line for line in lines(survey, everything=True))


def test_who_is_left_out_and_why_the_commonest_reason_first() -> None:
    left_out = {
        **{ServerId(f"id-web-{n}"): "no tag role" for n in range(1, 12)},
        ServerId("unknown"): "protected: id unknown is listed",
    }
    text = lines(found(resolution=Resolution(chosen={}, left_out=left_out)))
    at = text.index("left out: 12")
    assert text[at + 1] == "  11 x no tag role: web-1, web-2, web-3, web-4, web-5, web-6, … web-11 (11)"
    assert text[at + 2] == "  1 x protected: id unknown is listed: unknown"


def test_the_skipped_are_named_and_not_counted_as_hit() -> None:
    """The number that a person types is the number that stands here."""
    survey = found(
        skipped={ServerId("id-web-1"): "unfit: it is locked", ServerId("id-web-9"): "unfit: frozen"}
    )
    text = lines(survey)
    assert "web: 11 servers in 3 waves (5, 4, 2), at most 3 in flight" in text[1]
    assert text[-4:-1] == ["skipped as unfit: 2", "  web-1: unfit: it is locked", "  web-9: unfit: frozen"]
    assert not any(line.startswith("  wave") and "web-9" in line for line in text)
    data = as_data(survey)
    assert data["targets"][0]["servers"] == 11
    assert data["skipped"] == {"id-web-1": "unfit: it is locked", "id-web-9": "unfit: frozen"}


def test_warnings_are_shown_and_what_stops_is_left_to_the_error() -> None:
    survey = found(
        findings=(Finding("spot", "", "web", "web-1", stops=False), Finding("locked", "", "web", "web-2")),
        resolution=Resolution(chosen={}, left_out={}, warnings=(Problem("odd", hint="look"),)),
    )
    assert lines(survey)[-2:] == ["warning: odd\n  hint: look", "warning: web: web-1: spot"]


def test_figures_of_several_targets_add_up() -> None:
    data = as_data(found(target("db"), target("web"), count=6))
    assert [each["servers"] for each in data["targets"]] == [6, 6]
    assert all(sum(each["waves"]) == each["servers"] for each in data["targets"])
    assert len(data["servers"]) == 12


def test_a_name_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(id=ServerId("x"), name="evil\x1b]0;title\x07")
    survey = found(
        servers={server.id: server}, resolution=Resolution(chosen={}, left_out={server.id: "no tag role"})
    )
    print_lines(as_text(survey))
    out = capsys.readouterr().out
    assert "1 x no tag role: evil?]0;title?" in out
    assert not set(out) & {"\x1b", "\x07"}
