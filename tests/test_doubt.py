"""In doubt, right before the wipe, and after it: what each look proves, and what it does not."""

from __future__ import annotations

import msgspec
import pytest

from fleet.core.doubt import Doubt, Verdict, differences, may_wipe
from fleet.core.events import Member, ReinstallRequested
from fleet.core.model import Call, Disk, Server, ServerId
from fleet.core.settings import CloudSettings, Select, Settings, Target
from fleet.core.state import ServerState

OLD, NEW = "disk-old", "disk-new"
SETTLE_S, LIMIT_S = 300.0, 2700.0
ID = ServerId("id-1")


def noted(**fields) -> ReinstallRequested:
    values = {
        "attempt": 1,
        "call": Call.REINSTALL_CLOUD_INIT,
        "system_disk": OLD,
        "data_disks": (),
        "state": "SHUTOFF",
        "updated": "",
        "settle_s": SETTLE_S,
    }
    return ReinstallRequested(server=ID, **(values | fields))


def seen(status: str = "SHUTOFF", disk: str | None = OLD, **fields) -> Server:
    disks = (Disk(disk, system=True),) if disk else ()
    return Server(**({"id": ID, "name": "web-1", "status": status, "disks": disks} | fields))


STOOD = seen()
GONE = seen(disk=None)
FALSE_IDLE = seen("ACTIVE")
BUSY = seen(task="image_uploading")


def verdicts(*looks: tuple[Server, float], note: ReinstallRequested | None = None) -> list[Verdict]:
    """Return what each look concludes, of one doubt."""
    doubt = Doubt(note or noted(), limit_s=LIMIT_S)
    return [doubt.look(server, watched_s=watched).verdict for server, watched in looks]


LOOK = Verdict.KEEP_LOOKING


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        # Taken: one look with proof is enough, and no matter how long it was watched.
        ([(seen(disk=NEW), 0)], Verdict.TAKEN),
        ([(seen("ACTIVE", NEW), 0)], Verdict.TAKEN),
        ([(seen("ERROR", NEW), 0)], Verdict.TAKEN),
        ([(seen("REBUILD"), 0)], Verdict.TAKEN),
        ([(seen("REBUILD", None), 0)], Verdict.TAKEN),
        ([(seen("SHUTOFF", task="rebuilding"), 0)], Verdict.TAKEN),
        ([(seen("ACTIVE", task="rebuild_spawning"), 0)], Verdict.TAKEN),
        # The proof may come after any amount of standing still.
        ([(STOOD, 0), (STOOD, 100), (STOOD, 299), (seen(disk=NEW), 299.9)], Verdict.TAKEN),
        # A missing disk proves it, but answers leave fields out: it has to be missing several times in a row.
        ([(GONE, 0)], LOOK),
        ([(GONE, 0), (GONE, 15)], LOOK),
        ([(GONE, 0), (GONE, 15), (GONE, 30)], Verdict.TAKEN),
        ([(GONE, 0), (GONE, 15), (STOOD, 30), (GONE, 45)], LOOK),
        ([(GONE, 0), (seen("ACTIVE", None), 15), (GONE, 30)], LOOK),
        # Not taken: the whole settle time, and at least three equal looks.
        ([(STOOD, 0), (STOOD, 1), (STOOD, 2), (STOOD, SETTLE_S - 0.1)], LOOK),
        ([(STOOD, SETTLE_S)], LOOK),
        ([(STOOD, SETTLE_S), (STOOD, SETTLE_S + 1)], LOOK),
        ([(STOOD, 0), (STOOD, 150), (STOOD, SETTLE_S)], Verdict.NOT_TAKEN),
        ([(STOOD, 900), (STOOD, 915), (STOOD, 930)], Verdict.NOT_TAKEN),
        # A deviation, once, and standing still proves nothing any more.
        ([(STOOD, 0), (GONE, 15), *[(STOOD, s) for s in (30, 150, SETTLE_S)]], Verdict.UNDECIDABLE),
        ([(FALSE_IDLE, 0), *[(STOOD, s) for s in (15, 150, SETTLE_S)]], Verdict.UNDECIDABLE),
        ([(seen("ERROR"), 0), *[(STOOD, s) for s in (15, 150, SETTLE_S)]], Verdict.UNDECIDABLE),
        ([(BUSY, 0), *[(STOOD, s) for s in (15, 150, SETTLE_S)]], Verdict.UNDECIDABLE),
        # Idle with the old disk, but not as before: somebody else's doing, or a false idle state.
        ([(FALSE_IDLE, s) for s in (0, 15, 30)], LOOK),
        ([(FALSE_IDLE, s) for s in (0, 150, SETTLE_S)], Verdict.UNDECIDABLE),
        ([(FALSE_IDLE, 0), (FALSE_IDLE, 15), (seen("ACTIVE", NEW), 30)], Verdict.TAKEN),
        # Never idle: never concluded upon before the limit, and not looked at for ever.
        ([(BUSY, s) for s in (0, 15, 30, SETTLE_S, 1000, LIMIT_S - 1)], LOOK),
        ([(BUSY, s) for s in (0, 15, 30, SETTLE_S, 1000, LIMIT_S)], Verdict.UNDECIDABLE),
    ],
)
def test_what_a_doubt_comes_to(looks: list[tuple[Server, float]], verdict: Verdict) -> None:
    *before, last = verdicts(*looks)
    assert last is verdict
    assert set(before) <= {LOOK}, "it had concluded already"


def test_a_server_in_error_before_the_request_may_stand_in_error() -> None:
    """A reinstall is asked for from ERROR as well: as before is what it was, not SHUTOFF."""
    error = seen("ERROR")
    note = noted(state="ERROR")
    assert verdicts((error, 0), (error, 150), (error, SETTLE_S), note=note)[-1] is Verdict.NOT_TAKEN


def test_nothing_is_not_taken_when_the_old_disk_was_not_known() -> None:
    note = noted(system_disk=None)
    assert verdicts((GONE, 0), (GONE, 150), (GONE, SETTLE_S), note=note)[-1] is Verdict.UNDECIDABLE


def test_a_flapping_server_is_not_looked_at_for_ever() -> None:
    """Every wait ends: a server that is another one at every look is undecidable at the limit."""
    flapping = [(BUSY if n % 2 else STOOD, n * 60.0) for n in range(60)]
    found = verdicts(*[look for look in flapping if look[1] <= LIMIT_S])
    assert found[-1] is Verdict.UNDECIDABLE
    assert set(found[:-1]) == {LOOK}


def test_the_evidence_is_in_words() -> None:
    doubt = Doubt(noted(), limit_s=LIMIT_S)
    assert doubt.look(seen(disk=NEW), watched_s=0).evidence == "system disk disk-new instead of disk-old"
    doubt = Doubt(noted(), limit_s=LIMIT_S)
    assert doubt.look(seen("REBUILD", task="rebuilding"), watched_s=0).evidence == (
        "the server is REBUILD (rebuilding)"
    )
    doubt = Doubt(noted(), limit_s=LIMIT_S)
    for watched in (0, 150, SETTLE_S):
        last = doubt.look(FALSE_IDLE, watched_s=watched)
    assert "saw ACTIVE with system disk disk-old" in last.evidence
    assert "before the request it was SHUTOFF" in last.evidence


# -- the last look --------------------------------------------------------------------------------------

MEMBER = Member(
    id=ID,
    name="web-1",
    target="web",
    wave=1,
    call=Call.REINSTALL_CLOUD_INIT,
    status="ACTIVE",
    system_disk=OLD,
    flavor="s3.large.2",
    zone="az-1",
    addresses=("10.0.0.1", "10.0.0.2"),
    security_groups=("sg-b", "sg-a"),
    tags={"role": "web", "_sys": "x"},
    data_disks=("data-2", "data-1"),
)
TARGET = Target(name="web", select=Select(tags={"role": ("web",)}), exclude=Select(tags={"keep": ()}))
LOOKS_GOOD = seen(tags={"role": "web"})


def plan(protect: Select | None = None) -> Settings:
    return Settings(
        plan="p",
        digest="",
        folder="/",
        cloud=CloudSettings(provider="ecs"),
        targets=(TARGET,),
        protect=protect,
    )


def test_a_server_as_planned_may_be_wiped_whatever_its_power() -> None:
    """A selector by status chose a running server; that it is off now is our own doing."""
    by_status = msgspec.structs.replace(TARGET, select=Select(tags={"role": ("web",)}, status=("ACTIVE",)))
    assert may_wipe(ServerState(MEMBER), LOOKS_GOOD, plan(), by_status) is None


@pytest.mark.parametrize(
    ("fields", "protect", "reason"),
    [
        ({"id": ServerId("id-2")}, None, "the cloud answered with another server, id-2"),
        ({"name": "web-2"}, None, "its name is 'web-2', it was 'web-1' when the run was opened"),
        ({"locked": True}, None, "it has been locked since the run was opened"),
        ({"bare_metal": True}, None, "it is a bare metal server"),
        ({"disks": ()}, None, "it shows no system disk, so there is nothing to reinstall"),
        (
            {"disks": (Disk(OLD, system=True), Disk("b", system=True))},
            None,
            "it shows no system disk, so there is nothing to reinstall",
        ),
        ({}, Select(ids=("id-1",)), "id id-1 is listed"),
        ({}, Select(ids=("other",), tags={"role": ("web",)}), "tag role=web"),
        (
            {"tags": {"role": "web", "keep": "yes"}},
            None,
            "it is excluded by now: tag keep=yes",
        ),
        ({"tags": {"role": "db"}}, None, "it is not selected any more: tag role=db is not web"),
        ({"tags": {}}, None, "it is not selected any more: no tag role"),
        (
            {"disks": (Disk(NEW, system=True),)},
            None,
            "its system disk is disk-new, it was disk-old: somebody has reinstalled it",
        ),
    ],
)
def test_why_a_server_may_not_be_wiped(fields: dict, protect: Select | None, reason: str) -> None:
    look = msgspec.structs.replace(LOOKS_GOOD, **fields)
    assert may_wipe(ServerState(MEMBER), look, plan(protect), TARGET) == reason


def test_a_selector_by_status_alone_is_not_an_empty_one_at_the_last_look() -> None:
    """Without its status nothing would be left of it, and an empty selector matches nothing."""
    by_status = Target(name="web", select=Select(status=("ACTIVE", "SHUTOFF")))
    assert may_wipe(ServerState(MEMBER), LOOKS_GOOD, plan(), by_status) is None


def test_the_disk_of_the_announcement_counts_once_there_is_one() -> None:
    """Not taken, so asked again: the disk must be the one that was noted, whatever it was at the opening."""
    server = ServerState(MEMBER, noted=noted(system_disk="disk-mid"))
    assert may_wipe(server, seen(disk="disk-mid", tags={"role": "web"}), plan(), TARGET) is None
    assert may_wipe(server, LOOKS_GOOD, plan(), TARGET) == (
        "its system disk is disk-old, it was disk-mid: our last request, after all, or somebody else has "
        "reinstalled it"
    )


def test_after_a_reinstall_of_ours_that_failed_the_disk_may_be_another_one() -> None:
    server = ServerState(MEMBER, noted=noted(), accepted=1, disk_may_differ=True)
    assert may_wipe(server, seen(disk=NEW, tags={"role": "web"}), plan(), TARGET) is None
    locked = seen(disk=NEW, tags={"role": "web"}, locked=True)
    assert may_wipe(server, locked, plan(), TARGET) == "it has been locked since the run was opened"


def test_a_server_whose_disk_was_not_known_at_the_opening_is_taken_as_it_is() -> None:
    member = msgspec.structs.replace(MEMBER, system_disk=None)
    assert may_wipe(ServerState(member), LOOKS_GOOD, plan(), TARGET) is None


@pytest.mark.parametrize(
    ("exclude", "protect"), [(Select(status=("SHUTOFF",)), None), (None, Select(status=("SHUTOFF",)))]
)
def test_our_own_stop_does_not_exclude_or_protect_a_server(
    exclude: Select | None, protect: Select | None
) -> None:
    """The plan leaves out servers that were off; this one ran, and is off because we stopped it."""
    target = msgspec.structs.replace(TARGET, exclude=exclude)
    assert may_wipe(ServerState(MEMBER), LOOKS_GOOD, plan(protect), target) is None


def test_a_person_may_retry_a_server_that_was_reinstalled_and_not_one_that_nobody_can_tell_about() -> None:
    """Verification failed, the person says again: the new disk is our own. In doubt it may be anybody's."""
    look = seen(disk=NEW, tags={"role": "web"})
    assert may_wipe(ServerState(MEMBER, noted=noted(), disk_may_differ=True), look, plan(), TARGET) is None
    why = may_wipe(ServerState(MEMBER, noted=noted(), wiped=None), look, plan(), TARGET)
    assert why is not None
    assert "or somebody else has reinstalled it" in why


# -- afterwards -----------------------------------------------------------------------------------------

AFTER = seen(
    "ACTIVE",
    NEW,
    flavor="s3.large.2",
    zone="az-1",
    addresses=("10.0.0.2", "10.0.0.1"),
    security_groups=("sg-a", "sg-b"),
    tags={"role": "web", "_other": "y"},
    disks=(Disk(NEW, system=True), Disk("data-1", system=False), Disk("data-2", system=False)),
)


def test_a_reinstall_that_changed_nothing_else_is_good_in_whatever_order_things_are_listed() -> None:
    assert differences(MEMBER, None, AFTER) == []
    assert differences(MEMBER, noted(data_disks=("data-1", "data-2")), AFTER) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "web-9"}, "name was web-1, is web-9"),
        ({"flavor": "s3.small"}, "flavor was s3.large.2, is s3.small"),
        ({"zone": "az-2"}, "availability zone was az-1, is az-2"),
        ({"addresses": ("10.0.0.1",)}, "addresses was 10.0.0.1, 10.0.0.2, is 10.0.0.1"),
        ({"addresses": ()}, "addresses was 10.0.0.1, 10.0.0.2, is none"),
        ({"security_groups": ("sg-a",)}, "security groups was sg-a, sg-b, is sg-a"),
        ({"tags": {}}, "tags was role=web, is none"),
        ({"tags": {"role": "db"}}, "tags was role=web, is role=db"),
        ({"disks": (Disk(NEW, system=True),)}, "data disks was data-1, data-2, is none"),
    ],
)
def test_what_a_reinstall_must_not_change(fields: dict, words: str) -> None:
    assert differences(MEMBER, None, msgspec.structs.replace(AFTER, **fields)) == [words]


def test_what_the_cloud_did_not_show_before_is_not_compared() -> None:
    bare = Member(id=ID, name="", target="web", wave=1, call=Call.REINSTALL_PLAIN)
    assert differences(bare, None, AFTER) == []
    assert differences(MEMBER, noted(data_disks=()), AFTER) == [], "no data disk was noted"


def test_a_third_key_pair_is_a_difference_and_the_old_one_is_not() -> None:
    """Whether a cloud shows the new key pair after a reinstall, or the first one, nobody documents."""
    member = msgspec.structs.replace(MEMBER, key_pair="old")
    for shown, good in (("old", True), ("new", True), ("", True), ("foreign", False)):
        after = msgspec.structs.replace(AFTER, key_pair=shown)
        assert (differences(member, None, after, key_pair="new") == []) is good
        assert differences(member, None, after) == [], "a password: the cloud may show any"
