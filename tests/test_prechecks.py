"""What surrounds servers, asked of the built-in cloud over its own calls, on virtual time."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from story_support import calm, reason, told
from test_survey import SmallCloud, look, plan, server, target

from fleet import secrets
from fleet.cloud.simulator.things import BackupRecord, ScalingGroupRecord, User
from fleet.cloud.simulator.world import Estate
from fleet.core.model import Image
from fleet.core.settings import Backup, Reinstall, Rollout, SecretRef
from fleet.rehearsal.stories import Story, tell


def story(estate: Estate | None = None, backup: Backup | None = None, **options) -> Story:
    found = calm("web-1", "web-2", "web-3", **options)
    [web] = found.settings.targets
    settings = msgspec.structs.replace(
        found.settings, targets=(msgspec.structs.replace(web, require_backup=backup),)
    )
    return replace(found, settings=settings, estate=estate)


def refused(wanted: Story) -> str:
    with secrets.set_aside():
        found = tell(wanted)
    assert found.reinstalls() == {}
    return found.opened_nothing


def test_a_member_of_an_auto_scaling_group_is_refused() -> None:
    group = ScalingGroupRecord(name="web-as", servers=("web-[12]",))
    words = refused(story(Estate(scaling_groups=(group,))))
    assert "web-1, web-2: it is a member of auto-scaling group web-as" in words
    assert "removed and deleted, since the group created it" in words
    assert "web-3" not in words


def test_a_paused_group_removes_nobody() -> None:
    group = ScalingGroupRecord(name="web-as", servers=("web-*",), status="PAUSED")
    assert set(told(story(Estate(scaling_groups=(group,)))).phases().values()) == {"verified"}


def test_more_groups_and_members_than_a_page() -> None:
    groups = tuple(ScalingGroupRecord(name=f"g{n}", servers=("nobody",)) for n in range(150))
    last = ScalingGroupRecord(name="last", servers=("web-2",), made_them=False)
    words = refused(story(Estate(scaling_groups=(*groups, last))))
    assert "web-2: it is a member of auto-scaling group last" in words
    assert "would be removed from it" in words


def test_a_cloud_that_does_not_say_is_no_reason_to_stop() -> None:
    user = User(access_keys=Estate().users[0].access_keys, denied=("as:groups:list",))
    assert set(told(story(Estate(users=(user,)))).phases().values()) == {"verified"}


def test_the_disk_quota_has_to_do_for_everybody_in_flight() -> None:
    words = refused(story(behaviour={"volume_quota": 5}))  # three servers, a disk each
    assert "up to 3 at once, and the quota of 5 leaves 2" in words
    assert "concurrency: 2" in words
    assert set(told(story(behaviour={"volume_quota": 6})).phases().values()) == {"verified"}


DAY = Backup(younger_than_s=86400.0)


def test_no_wipe_without_a_way_back() -> None:
    backups = (
        BackupRecord(servers=("web-1",), age_s=3600.0),
        BackupRecord(servers=("web-2",), age_s=90000.0),
    )
    words = refused(story(Estate(backups=backups), DAY))
    assert "web-2, web-3: no usable backup of it is younger than 24 h" in words


def test_a_backup_that_is_not_finished_is_none() -> None:
    backup = BackupRecord(servers=("*",), status="protecting")
    assert "web-1, web-2, web-3: no usable backup" in refused(story(Estate(backups=(backup,)), DAY))


def test_the_id_of_the_way_back_is_in_the_journal() -> None:
    found = told(story(Estate(backups=(BackupRecord(servers=("*",)),)), DAY))
    assert set(found.phases().values()) == {"verified"}
    assert all(event["backup"] for event in found.events("ReinstallRequested"))


def test_a_backup_that_grows_too_old_in_the_night_is_noticed_at_the_last_look() -> None:
    """Ten minutes are left when the run begins; the first server takes longer than that."""
    backup = BackupRecord(servers=("*",), age_s=3600.0)
    wanted = story(
        Estate(backups=(backup,)),
        Backup(younger_than_s=3660.0),
        rollout=Rollout(waves=(1,), concurrency=1, hold_after=2),
    )
    found = told(wanted)
    assert found.phases()["web-1"] == "verified"
    assert found.phases()["web-3"] == "failed"
    assert "its latest backup is 6" in reason(found, "web-3")
    assert found.reinstalls().get("web-3") is None


@pytest.mark.parametrize("code", [0, 1])
def test_a_command_says_whether_there_is_one(code: int) -> None:
    """Real processes, so in real time."""
    script = f'test "$1" = web-1 || exit {code}'
    backup = Backup(command=("/bin/sh", "-c", script, "-", "{server.name}"))
    cloud = SmallCloud(server("web-1"), server("web-2"), server("web-3"))
    found = look(cloud, plan(target(require_backup=backup)))
    missing = {
        finding.server for finding in found.findings if "no backup, says the command" in finding.message
    }
    assert missing == ({"web-2", "web-3"} if code else set())


def test_a_cloud_that_knows_no_backups_needs_a_command() -> None:
    found = look(SmallCloud(server("web-1")), plan(target(require_backup=DAY)))
    assert [finding.message for finding in found.findings] == [
        "this cloud cannot say whether there is a backup: require it with a command"
    ]
    skipped = look(SmallCloud(server("web-1")), plan(target(require_backup=DAY)), skip_unfit=True)
    assert list(skipped.skipped) == ["id-web-1"]


@pytest.mark.parametrize(
    ("image", "reinstall", "words"),
    [
        (
            Image(id="img", os_type="Windows", cloud_init=False),
            {"key_pair": "kp"},
            "takes a password and no key",
        ),
        (Image(id="img", os_type="Windows"), {"key_pair": "kp"}, "has to be read from the cloud first"),
        (
            Image(id="img", os_type="Windows"),
            {"admin_password": "Pa55-and-xMIN"},
            "three characters in a row",
        ),
        (Image(id="img", os_type="Windows"), {"admin_password": "Pa55-and-xot"}, ""),
        (Image(id="img"), {"admin_password": "Pa55-and-xMIN"}, ""),
    ],
)
def test_windows(
    image: Image, reinstall: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = SmallCloud(server("web-1"))
    cloud.images["img"] = image
    with secrets.set_aside():
        if "admin_password" in reinstall:
            monkeypatch.setenv("WIN_PW", reinstall["admin_password"])
            wanted = Reinstall(admin_password=SecretRef(env="WIN_PW"))
        else:
            wanted = Reinstall(key_pair="kp")
        found = look(cloud, plan(target(reinstall=wanted)))
    said = "; ".join(finding.message for finding in found.findings)
    assert words in said
    assert bool(words) == bool(said)
    assert "Pa55" not in said
