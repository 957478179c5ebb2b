"""What a person agrees to: whom a run hits, in which waves, and at worst."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from support import AT

from fleet.cli.common import print_lines
from fleet.core.events import Member
from fleet.core.model import Call, Identity, Server, ServerId
from fleet.core.preflight import Finding
from fleet.core.rollout import cut_waves
from fleet.core.select import Resolution
from fleet.core.settings import (
    CloudSettings,
    CommandCheck,
    Reinstall,
    Rollout,
    SecretRef,
    Select,
    Settings,
    Target,
    UserData,
    Verify,
)
from fleet.core.waves import ServerKind
from fleet.errors import Problem
from fleet.report.outlook import outlook
from fleet.report.preview import NO_CLAIM, as_data, as_text
from fleet.survey import Survey

ME = Identity(user_id="u", user_name="deploy", project_id="p", project_name="p", cloud="iam eu-de")

CHECKED = Verify(checks=(CommandCheck(argv=("./joined",)),))
WAVE_1_MAY_FAIL = """\
warning: web: `hold_after: 2` lets the whole of wave 1 fail (1 of 1), and wave 2 starts all the same
  hint: hold_after (short: max_failures) below the size of wave 1, in_a_row: 1, or approve_after: [1]"""


def LOOK(survey: Survey):  # noqa: N802 - short, in a table
    return outlook(survey, AT)


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


def test_what_a_person_reads() -> None:
    """The worst comes first, what is odd last."""
    data = UserData(kind="file", sha256="x", size=17, path="/plans/web.yaml")
    wanted = target(reinstall=Reinstall(key_pair="kp", user_data=data), verify=CHECKED, expect_max=20)
    assert lines(found(wanted), outlook=LOOK(found(wanted))) == [
        "cloud: iam eu-de, as deploy",
        "13 servers will be reinstalled; every system disk is wiped",
        "at worst, until a person releases or retries:",
        "  in flight at once       3 of 13",
        "  out of service at once  5 of 13  in flight, or failed and left down",
        "  … in one zone           5 of 13  no zone",
        "  lost before it holds    5 of 13  the 3rd failure holds",
        "  expected end       Sat 05 Dec 20:33 UTC  6 min a server, by the cloud's documents",
        "  last possible end  Sun 06 Dec 18:30 UTC  if every server used up its time-outs",
        "web: 13 servers in 4 waves, at most 3 in flight",
        "  calls: 13 x reinstall-v2",
        "  login: key pair kp; user data: 17 bytes (/plans/web.yaml)",
        "  wave  servers  at once  limited by   lost at worst  who",
        "  1     1        1        the wave     1              web-1",
        "  2     5        3        concurrency  5              web-2, web-3, web-4, web-5, web-6",
        "  3     5        3        concurrency  5              web-7, web-8, web-9, web-10, web-11",
        "  4     2        2        the wave     5              web-12, web-13",
        NO_CLAIM,
        WAVE_1_MAY_FAIL,
    ]


def test_a_wave_of_one_says_what_it_does_not_stand_for() -> None:
    survey = found(count=4)
    kinds = ["s3", "s3", "c4", "m6"]
    survey = found(
        count=4,
        kinds={
            member.id: ServerKind(image="img", flavor=kinds[n]) for n, member in enumerate(survey.members)
        },
    )
    text = lines(survey)
    at = next(n for n, line in enumerate(text) if "kinds of server" in line)
    assert text[at].startswith("  wave 1 has 1 of 3 kinds")
    assert "`waves: [cover, …]` would take 3" in text[at]
    assert text[at + 1 : at + 3] == [
        "    c4, image img: first in wave 2",
        "    m6, image img: first in wave 2",
    ]


def test_a_name_cannot_forge_a_line() -> None:
    survey = found(count=1)
    [member] = survey.members
    forged = msgspec.structs.replace(member, name="web-1\nwarning: all is well")
    text = lines(replace(survey, members=(forged,)))
    assert "warning: all is well" not in "\n".join(text).split("\n")
    assert any("web-1\\nwarning: all is well" in line for line in text)


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
    assert any(f"  the {word} failure holds" in line for line in lines(found(wanted, count=40)))


def test_long_waves_are_cut_unless_all_is_wanted() -> None:
    wanted = target(rollout=Rollout(waves=(100,)))
    survey = found(wanted, count=50)
    assert any(
        line.endswith("  web-1, web-2, web-3, web-4, web-5, web-6, … web-50 (50)") for line in lines(survey)
    )
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
    assert "web: 11 servers in 3 waves, at most 3 in flight" in text
    at = text.index("skipped: 2")
    assert text[at + 1 : at + 3] == ["  web-1: unfit: it is locked", "  web-9: unfit: frozen"]
    assert not any("concurrency" in line and "web-9" in line for line in text)
    data = as_data(survey)
    assert data["targets"][0]["servers"] == 11
    assert data["skipped"] == {"id-web-1": "unfit: it is locked", "id-web-9": "unfit: frozen"}


def test_warnings_are_shown_and_what_stops_is_left_to_the_error() -> None:
    survey = found(
        findings=(Finding("spot", "", "web", "web-1", stops=False), Finding("locked", "", "web", "web-2")),
        resolution=Resolution(chosen={}, left_out={}, warnings=(Problem("odd", hint="look"),)),
    )
    text = lines(survey)
    at = text.index("warning: odd\n  hint: look")
    assert text[at + 1] == "warning: web: web-1: spot"
    assert not any("locked" in line for line in text)


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
    assert r"1 x no tag role: evil\x1b]0;title\x07" in out
    assert not set(out) & {"\x1b", "\x07"}
