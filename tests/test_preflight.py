"""What is found before anything is touched."""

from __future__ import annotations

import pytest

from fleet.core.model import Call, Disk, Image, KeyPair, Server, ServerId
from fleet.core.preflight import (
    OURSELVES,
    Finding,
    call_for,
    check_key_pair,
    check_password,
    check_server,
    unfit,
)
from fleet.core.settings import Reinstall, Select, Target, UserData
from fleet.whereami import own_server_ids

GOOD = {"id": ServerId("id-1"), "name": "web-1", "status": "ACTIVE", "image": "img"}
DISKS = (Disk("d", system=True),)
IMAGE = Image(id="img", name="Debian")
PLAIN = Image(id="img", name="Legacy", cloud_init=False)
USER_DATA = UserData(kind="text", sha256="x", size=1)


def server(**fields) -> Server:
    return Server(**({**GOOD, "disks": DISKS} | fields))


def target(**reinstall) -> Target:
    return Target(name="web", select=Select(name=("web-*",)), reinstall=Reinstall(**reinstall))


@pytest.mark.parametrize(
    ("reinstall", "image", "call"),
    [
        (Reinstall(), IMAGE, Call.REINSTALL_CLOUD_INIT),
        (Reinstall(), PLAIN, Call.REINSTALL_PLAIN),
        (Reinstall(), None, Call.REINSTALL_CLOUD_INIT),
        (Reinstall(cloud_init=True), PLAIN, Call.REINSTALL_CLOUD_INIT),
        (Reinstall(cloud_init=False), IMAGE, Call.REINSTALL_PLAIN),
        (Reinstall(image="other"), IMAGE, Call.CHANGE_CLOUD_INIT),
        (Reinstall(image="other"), PLAIN, Call.CHANGE_PLAIN),
        (Reinstall(image="other", cloud_init=False), IMAGE, Call.CHANGE_PLAIN),
    ],
)
def test_which_call_installs(reinstall: Reinstall, image: Image | None, call: Call) -> None:
    assert call_for(reinstall, image) is call


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({}, []),
        ({"status": "SHUTOFF"}, []),
        ({"status": "ERROR"}, []),
        ({"unfit": ("it is frozen",)}, ["it is frozen"]),
        ({"locked": True}, ["it is locked"]),
        ({"disks": ()}, ["it shows no system disk"]),
        ({"task": "powering-off"}, ["something is being done to it: ACTIVE (powering-off)"]),
        ({"status": "VERIFY_RESIZE"}, ["it is VERIFY_RESIZE"]),
        ({"status": "UNKNOWN", "disks": ()}, ["it shows no system disk", "it is UNKNOWN"]),
    ],
)
def test_whom_the_cloud_would_refuse(fields: dict, reasons: list[str]) -> None:
    assert unfit(server(**fields)) == reasons
    found = check_server(target(), server(**fields), IMAGE)
    assert [each.message for each in found if each.unfit] == reasons
    assert all(each.stops for each in found if each.unfit)


@pytest.mark.parametrize(
    ("reinstall", "fields", "image", "message", "stops", "leaving_out_would_do"),
    [
        ({}, {}, None, "its image img does not exist any more", True, True),
        ({}, {"image": ""}, None, "its image (unknown) does not exist any more", True, True),
        ({"image": "new"}, {}, None, "its image new does not exist any more", True, True),
        ({}, {}, Image(id="img", fit="status queued"), "image img: status queued", True, True),
        ({}, {"spot": True}, IMAGE, "it is a spot server", False, False),
        ({}, {"status": "ERROR"}, IMAGE, "it is in ERROR; a reinstall may mend it", False, False),
        ({"user_data": USER_DATA}, {}, PLAIN, "image Legacy carries no cloud-init", True, False),
    ],
)
def test_what_one_server_is_warned_about_or_refused_for(
    reinstall: dict,
    fields: dict,
    image: Image | None,
    message: str,
    *,
    stops: bool,
    leaving_out_would_do: bool,
) -> None:
    (found,) = check_server(target(**reinstall), server(**fields), image)
    assert found.message.startswith(message)
    assert (found.stops, found.unfit) == (stops, leaving_out_would_do)
    assert (found.target, found.server) == ("web", "web-1")


def test_a_good_server_is_no_finding() -> None:
    assert check_server(target(user_data=USER_DATA), server(), IMAGE) == []
    assert check_server(target(user_data=USER_DATA, cloud_init=True), server(), PLAIN) == []


def test_a_key_pair_that_is_there() -> None:
    assert check_key_pair(target(key_pair="kp"), KeyPair(name="kp")) == []
    assert check_key_pair(target(), None) == []


def test_a_key_pair_that_we_do_not_see_stops_unless_its_owner_is_named() -> None:
    """Only the owner of a key pair sees it: with `user_id` it may be right, without it cannot be."""
    (stops,) = check_key_pair(target(key_pair="kp"), None)
    assert stops.stops
    assert "name the owner with `user_id`" in stops.hint
    (warns,) = check_key_pair(target(key_pair="kp", user_id="u"), None)
    assert not warns.stops


@pytest.mark.parametrize("password", ["Abcdefg1", "abcdefg1!", "ABCDEFG1!", "Ab" + "1" * 24, "Abcdefg!"])
def test_passwords_that_the_cloud_takes(password: str) -> None:
    assert check_password(target(), password) == []


@pytest.mark.parametrize(
    "password",
    [
        "",
        "Abcdef1",
        "Ab" + "1" * 25,
        "abcdefgh",
        "abcdefg1",
        "ABCDEFGH!",
        "Abcdefg1é",
        "Abc defg1",
        "Abcdefg1;",
    ],
)
def test_passwords_that_it_refuses_are_not_repeated(password: str) -> None:
    (found,) = check_password(target(), password)
    assert found.stops
    assert not password or password not in str(found)


def test_a_finding_says_who_what_and_what_to_do() -> None:
    assert str(Finding("broken", "mend it", "web", "web-1")) == "web: web-1: broken\n  hint: mend it"
    assert str(Finding("broken")) == "broken"


def test_the_machine_that_fleet_runs_on_is_unfit(tmp_path) -> None:
    """Found offline, from what cloud-init leaves on a cloud server; upper or lower case."""
    found = tmp_path / "instance-id"
    found.write_text("4F4B3DFA-eb70-47cf-a60a-998a53bd598a\n")
    own = own_server_ids([tmp_path / "absent", found])
    assert own == {"4f4b3dfa-eb70-47cf-a60a-998a53bd598a"}
    disks = (Disk(id="d", system=True),)
    ours = Server(id=ServerId("4f4b3dfa-eb70-47cf-a60a-998a53bd598a"), status="ACTIVE", disks=disks)
    other = Server(id=ServerId("5a5b3dfa-eb70-47cf-a60a-998a53bd598a"), status="ACTIVE", disks=disks)
    assert OURSELVES in unfit(ours, own)
    assert unfit(other, own) == []
