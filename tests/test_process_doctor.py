"""`fleet doctor`, real processes: a cloud that is well, and several that are not. It changes nothing."""

from __future__ import annotations

from datetime import datetime

import pytest
from process_support import fleet_on, fleet_text, plan_text

from fleet.cloud.simulator import defaults

pytestmark = pytest.mark.process

DENIED = """\
speed: 100
users:
  - {name: fleet, password: simulator, denied: ["ecs:cloudServers:list"]}
servers:
  - {name: web-1}
"""
KEYS = {"HW_ACCESS_KEY": defaults.ACCESS_KEY, "HW_SECRET_KEY": defaults.SECRET_KEY}


def verdicts(done):
    """Return the steps' verdicts; of a name with several, the worst."""
    order = ["untried", "well", "odd", "wrong"]
    found = {}
    for step in done.data["steps"]:
        name = step["step"]
        found[name] = max(found.get(name, "untried"), step["verdict"], key=order.index)
    return found


def step(done, name):
    return next(each for each in done.data["steps"] if each["step"] == name)


def test_all_is_well(tmp_path):
    """Everything was looked at, and the cloud's own record has no call that would change anything."""
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        fleet.state.mkdir(mode=0o700)
        plan = fleet.plan(plan_text())
        done = fleet("doctor", plan, "-o", "json")
        text = fleet("doctor", plan)

        assert done.code == 0, done.out
        assert done.data["well"] is True
        found = verdicts(done)
        assert set(found.values()) == {"well", "untried"}
        assert [name for name, verdict in found.items() if verdict == "untried"] == ["permissions"]
        assert {
            "fleet",
            "plan",
            "windows",
            "state folder",
            "login found",
            "identity service",
            "clock",
        } <= set(found)
        assert {
            "login",
            "user id",
            "address of ecs",
            "servers",
            "images",
            "key pairs",
            "surroundings",
        } <= set(found)
        assert "3 in the project" in step(done, "servers")["said"]
        assert cloud.calls() == []
        assert list(fleet.state.iterdir()) == []
    assert text.code == 0
    assert "✓ login: as fleet, project sim-1" in text.out
    assert text.last == "nothing is wrong"


def test_the_next_openings_in_local_time_and_utc(tmp_path):
    windows = 'windows: [{days: [sat, sun], from: "22:00", to: "04:00", timezone: Europe/Berlin}]\n'
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _):
        plan = fleet.plan(plan_text(more=windows))
        done = fleet("doctor", plan, "-o", "json")
        text = fleet("doctor", plan)

    openings = done.data["openings"]
    assert len(openings) == 5
    for each in openings:
        local, utc = datetime.fromisoformat(each["start"]), datetime.fromisoformat(each["start_utc"])
        assert local == utc
        assert (local.hour, local.strftime("%a") in {"Sat", "Sun"}) == (22, True)
        assert utc.utcoffset().total_seconds() == 0
    assert text.out.count(" UTC, ") == 5
    assert "22:00 CE" in text.out


def test_openings_that_no_cron_start_meets(tmp_path):
    """Cron goes by a local time and the windows by another: what falls between them is a warning."""
    windows = 'windows: [{days: [sat, sun], from: "22:00", to: "04:00", timezone: Europe/Berlin}]\n'
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _):
        plan = fleet.plan(plan_text(more=windows))
        bad = fleet("doctor", plan, "-o", "json", "--cron", "0 22 * *")
        some = fleet("doctor", plan, "-o", "json", "--cron", "CRON_TZ=Europe/Berlin */15 22-23 * * 6")
        text = fleet("doctor", plan, "--cron", "CRON_TZ=Europe/Berlin 0 4 * * *")
        alone = fleet("doctor", plan, "-o", "json", env={"PATH": str(tmp_path)})
    assert bad.code == 2
    assert "has 4 fields" in step(bad, "starts")["said"]
    met = [
        datetime.fromisoformat(each["start"]).strftime("%a") for each in some.data["openings"] if each["met"]
    ]
    assert set(met) == {"Sat"}
    assert 2 <= len(met) <= 3
    assert some.code == 0, "a warning is not wrong"
    said = [each["said"] for each in some.data["steps"] if each["step"] == "starts"]
    assert said[0] == f"--cron: */15 22-23 * * 6 (Europe/Berlin) meets {len(met)} of the next 5"
    assert said[1].startswith(f"nobody starts it in {5 - len(met)} of the next 5 openings: Sun ")
    assert text.out.count("\n      nobody starts it\n") == 5, (
        "the window closes at four, and four is not in it"
    )
    assert verdicts(alone)["starts"] == "untried"
    assert [each["met"] for each in alone.data["openings"]] == [None] * 5


def test_no_login(tmp_path):
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _):
        done = fleet("doctor", "-o", "json", env={"HOME": str(tmp_path)})
    assert done.code == 8
    assert step(done, "login found")["verdict"] == "wrong"
    assert "logging-in.md" in step(done, "login found")["remedy"]
    assert verdicts(done)["servers"] == "untried"


def test_a_wrong_password(tmp_path):
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        env = {
            "HOME": str(tmp_path),
            "OS_AUTH_URL": cloud.url,
            "OS_USERNAME": "fleet",
            "OS_PASSWORD": "Canary-Wrong-Passw0rd",
            "OS_USER_DOMAIN_NAME": defaults.DOMAIN_NAME,
            "OS_PROJECT_NAME": defaults.PROJECT_NAME,
        }
        done = fleet("doctor", "-o", "json", env=env)
    found = verdicts(done)
    assert done.code == 8
    assert (found["identity service"], found["clock"], found["login"]) == ("well", "well", "wrong")
    assert "OS_PASSWORD" in step(done, "login")["remedy"]
    assert "Canary" not in done.out + done.err


def test_a_wrong_secret_key(tmp_path):
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        env = {
            "HOME": str(tmp_path),
            "OS_AUTH_URL": cloud.url,
            "OS_PROJECT_NAME": defaults.PROJECT_NAME,
            **KEYS,
            "HW_SECRET_KEY": "Canary-Wrong-Secret",
        }
        done = fleet("doctor", env=env)
    assert done.code == 8
    assert "✗ login: " in done.out
    assert "secret key" in done.out
    assert "to mend: login" in done.last
    assert "Canary" not in done.out + done.err


def test_nobody_listens(tmp_path):
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        url = cloud.url
        cloud.process.kill()
        cloud.process.wait()
        done = fleet("doctor", "--provider", "simulator", "-o", "json", env={"FLEET_SIMULATOR_URL": url})
    assert done.code == 8
    assert "Connection refused" in step(done, "identity service")["said"]
    assert verdicts(done)["login"] == "untried"


def test_a_service_that_is_elsewhere(tmp_path):
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _):
        text = plan_text().replace(
            "provider: simulator", "provider: simulator, endpoints: {ecs: http://127.0.0.1:9}"
        )
        done = fleet("doctor", fleet.plan(text), "-o", "json")
    found = verdicts(done)
    assert done.code == 8
    assert (found["login"], found["address of ecs"], found["servers"]) == ("well", "wrong", "untried")
    assert "cloud.endpoints.ecs" in step(done, "address of ecs")["remedy"]


def test_a_right_that_is_missing(tmp_path):
    with fleet_on(tmp_path, DENIED) as (fleet, _):
        done = fleet("doctor", "--provider", "simulator", "-o", "json")
    assert done.code == 8
    assert step(done, "servers")["verdict"] == "wrong"
    assert "ecs:cloudServers:list" in step(done, "servers")["said"]


def test_a_key_pair_that_is_not_there(tmp_path):
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _):
        done = fleet("doctor", fleet.plan(plan_text().replace("demo-key", "nobodys")), "-o", "json")
    assert done.code == 2
    assert "nobodys" in step(done, "key pairs")["said"]


def test_a_plan_that_is_wrong(tmp_path):
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _):
        done = fleet("doctor", fleet.plan("select: {name: x}\nkey_pair: k\nnonsense: 1\n"), "-o", "json")
    assert done.code == 2
    assert step(done, "plan")["verdict"] == "wrong"
    assert "nonsense" in step(done, "plan")["said"]


def test_a_state_folder_that_cannot_be_written_or_is_open(tmp_path):
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _):
        fleet.state.mkdir(mode=0o755)
        open_ = fleet("doctor", "--provider", "simulator", "-o", "json")
        (tmp_path / "a-file").write_text("")
        broken = fleet(
            "doctor",
            "--provider",
            "simulator",
            "-o",
            "json",
            env={"FLEET_STATE_DIR": str(tmp_path / "a-file")},
        )
    assert open_.code == 0
    assert step(open_, "state folder")["verdict"] == "odd"
    assert "chmod 700" in step(open_, "state folder")["remedy"]
    assert broken.code == 9
    assert step(broken, "state folder")["verdict"] == "wrong"
    assert verdicts(broken)["servers"] == "well"  # the rest is looked at all the same
