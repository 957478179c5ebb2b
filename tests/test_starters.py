"""Who starts a plan on a machine: crontabs and timers in a folder of their own, read as the system would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fleet.core.windows import Span
from fleet.starters import Found, find, given, local_zone

PLAN = Path("/etc/fleet/plans/web.yaml")
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Span(datetime(2026, 12, 5, 22, tzinfo=BERLIN), datetime(2026, 12, 6, 4, tzinfo=BERLIN))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a machine in Berlin, whose user has no crontab."""
    for folder in ("etc/cron.d", "etc/systemd/system/timers.target.wants", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    user_has(tmp_path, "", code=1)
    return tmp_path


def user_has(root: Path, crontab: str, *, code: int = 0) -> None:
    (root / "crontab").write_text(crontab)
    script = root / "bin/crontab"
    script.write_text(f'#!/bin/sh\n[ "$1" = -l ] && cat {root / "crontab"}\nexit {code}\n')
    script.chmod(0o755)


def look(root: Path) -> Found:
    return find(PLAN, "web", root)


def test_the_zone_is_the_machine_s(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert str(local_zone(root)) == "Europe/Berlin"
    (root / "etc/localtime").unlink()
    shutil.copy("/usr/share/zoneinfo/Europe/Lisbon", root / "etc/localtime")
    assert local_zone(root).utcoffset(datetime(2026, 7, 1, tzinfo=UTC)).total_seconds() == 3600
    (root / "etc/localtime").unlink()
    assert str(local_zone(root)) == "UTC"


def test_the_user_s_crontab(root: Path) -> None:
    """Only lines that start this very plan; a password in one is told to nobody."""
    user_has(
        root,
        "# 0 1 * * * fleet run web.yaml\n"
        "MAILTO=ops@example.com\n"
        "0 20 * * * fleet run /etc/fleet/plans/db.yaml --yes\n"
        "30 20 * * * fleet run /elsewhere/web.yaml --yes\n"
        "0 21 * * * fleet status web\n"
        "15 22 * * 6 OS_PASSWORD=Canary . /etc/rc&&/opt/fleet/bin/fleet run /etc/fleet/plans/web.yaml -y%in\n"
        "0 0 * * * cd /etc/fleet/plans; fleet run --yes web.yaml\n"
        "@daily fleet resume web-tier\n"
        "@reboot fleet run web.yaml --yes\n"
        "0~9 1 * * * fleet run web.yaml\n",
    )
    found = look(root)
    assert [(each.place, each.words) for each in found.starters] == [
        ("your crontab, line 6", "15 22 * * 6"),
        ("your crontab, line 7", "0 0 * * *"),
        ("your crontab, line 8", "@daily"),
    ]
    firsts = [each.first(NIGHT) for each in found.starters]
    assert [f"{first:%H:%M %Z}" for first in firsts] == ["22:15 CET", "00:00 CET", "00:00 CET"]
    assert [each.partition(": ")[0] for each in found.odd] == [
        "your crontab, line 9",
        "your crontab, line 10",
    ]
    assert "Canary" not in repr(found)


def test_the_machine_s_crontabs(root: Path) -> None:
    """With the user's field, and a time zone where the file says one; what cron does not read is said."""
    line = "0 21 * * * fleet fleet run /etc/fleet/plans/web.yaml --yes\n"
    (root / "etc/crontab").write_text(line)
    (root / "etc/cron.d/fleet").write_text(f"CRON_TZ=UTC\n{line}")
    (root / "etc/cron.d/fleet.old").write_text(line)
    (root / "etc/cron.d/wrong").write_text(f"CRON_TZ=Mars\n{line}")
    found = look(root)
    assert [f"{each.first(NIGHT) or '-'}" for each in found.starters] == [
        "-",
        "2026-12-05 21:00:00+00:00",
        "-",
    ]
    assert [each.rpartition("/")[2] for each in found.odd] == [
        "fleet.old: Debian's cron reads no file with a dot in its name",
        "wrong, line 1: CRON_TZ: 'Mars' is no time zone",
    ]


SERVICE = "[Service]\nUser=fleet\nExecStart=/opt/fleet/bin/fleet run /etc/fleet/plans/%i.yaml --yes\n"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_timers_of_systemd(root: Path) -> None:
    """A template's instance that is enabled, by the calendar that a drop-in has put in its own's place."""
    units = root / "etc/systemd/system"
    (units / "fleet@.service").write_text(SERVICE)
    (units / "fleet@.timer").write_text("[Timer]\nOnCalendar=Sat 21:00\n")
    assert look(root).starters == ()
    for name in ("web", "db"):
        (units / f"timers.target.wants/fleet@{name}.timer").symlink_to(units / "fleet@.timer")
    (timer,) = look(root).starters
    assert (timer.place, timer.words, timer.first(NIGHT)) == ("fleet@web.timer", "Sat 21:00", None)
    (units / "fleet@web.timer.d").mkdir()
    (units / "fleet@web.timer.d/later.conf").write_text(
        "[Timer]\nOnCalendar=\nOnCalendar=Sun 03:30 Europe/Berlin\nOnCalendar=Sun 02:30 Europe/Berlin\n"
    )
    (timer,) = look(root).starters
    assert f"{timer.first(NIGHT):%a %H:%M %Z}" == "Sun 02:30 CET"
    (units / "own.service").write_text(SERVICE.replace("%i", "web"))
    (units / "own.timer").write_text("[Timer]\nOnCalendar=daily\n")
    found = look(root)
    assert found.starters == (timer,)
    assert found.odd == ("own.timer: it is not enabled (systemctl enable --now own.timer)",)


def test_a_timer_whose_times_nobody_can_tell_is_not_one_that_never_starts(root: Path) -> None:
    """As with a systemd that is too old for the question: "nobody starts it" would be a false alarm."""
    program = root / "bin/systemd-analyze"
    program.write_text("#!/bin/sh\necho unrecognized option >&2\nexit 1\n")
    program.chmod(0o755)
    units = root / "etc/systemd/system"
    (units / "web.timer").write_text("[Timer]\nOnCalendar=22:00\n")
    (units / "web.service").write_text("[Service]\nExecStart=/bin/fleet run web.yaml\n")
    (units / "timers.target.wants/web.timer").symlink_to(units / "web.timer")
    found = look(root)
    assert found.starters == ()
    assert found.odd == ("web.timer: systemd-analyze does not say when '22:00' is",)


def test_rubbish_in_a_crontab_hides_no_line(root: Path) -> None:
    """What no path can have, numbers that no int takes, quotes that never close."""
    rubbish = b"\xff\xfe\0\n* * * * * root fleet run /etc/\0/web.yaml\n"
    rubbish += b"9" * 5000 + b" * * * * root fleet run web.yaml\n"
    (root / "etc/crontab").write_bytes(rubbish + b"0 21 * * * root echo ' ; fleet run web.yaml\n")
    found = look(root)
    assert [each.place for each in found.starters] == [f"{root}/etc/crontab, line 4"]
    (odd,) = found.odd
    assert odd.startswith(f"{root}/etc/crontab, line 3: ")
    assert len(odd) < 300


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_home_that_is_somebody_else_s_has_no_timers() -> None:
    """As under `sudo -u fleet`, which may keep HOME; and a user without a home has none either."""
    program = (
        "import os\n"
        "from pathlib import Path\n"
        "from fleet import starters\n"
        "os.setuid(65534)\n"
        "starters.shutil.which = lambda name: name if name == 'systemd-analyze' else None\n"
        "assert 'systemd timers' in starters.find(Path('/x/web.yaml'), 'web').looked\n"
    )
    with tempfile.TemporaryDirectory() as closed:  # for its owner only
        for home in ({"HOME": closed}, {}):
            done = subprocess.run(
                [sys.executable, "-c", program], env=home, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, "")


def test_an_expression_given() -> None:
    assert f"{given('CRON_TZ=UTC 30 2 * * *').first(NIGHT):%H:%M %Z}" == "02:30 UTC"
    with pytest.raises(ValueError, match="no time zone"):
        given("CRON_TZ=Mars 0 1 * * *")
