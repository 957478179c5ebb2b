"""A canary in every place where a secret may be: it sings in no file, no output, no process list."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, quote_plus

import pytest
from process_support import Child, Fleet, fleet_on

pytestmark = pytest.mark.process

OS_PASSWORD = "Canary-OS-9f3a/+ &%\"'x"
ADMIN_ENV = "CanaryAdm1n!env"
ADMIN_FILE = "CanaryAdm1n!file"
ADMIN_COMMAND = "CanaryAdm1n!cmd"
USER_DATA_FILE = "canary-user-data-file-5d1c"
USER_DATA_TEXT = "canary-user-data-text-77b0"
PROXY = "canary-proxy-0c4e"
NEVER_STORED = (OS_PASSWORD, ADMIN_ENV, ADMIN_FILE, ADMIN_COMMAND, PROXY)
ALL = (*NEVER_STORED, USER_DATA_FILE, USER_DATA_TEXT)


def forms(secret: str) -> set[bytes]:
    """Return a secret as HTTP, JSON and Python would show it."""
    raw = secret.encode()
    found = {
        raw,
        quote(secret, safe="").encode(),
        quote_plus(secret).encode(),
        json.dumps(secret)[1:-1].encode(),
    }
    for lead in range(3):
        text = base64.b64encode(b"x" * lead + raw)
        found.add(text[4 if lead else 0 : -4])
    return found


def leaks(content: bytes, secrets: tuple[str, ...] = ALL) -> list[str]:
    return [secret for secret in secrets for form in forms(secret) if form in content]


def cloud_text() -> str:
    return json.dumps(
        {
            "speed": 150,
            "users": [{"name": "canary", "password": OS_PASSWORD}],
            "key_pairs": [],
            "servers": [
                {"name": f"{role}-{{}}", "count": 2, "tags": {"role": role}, "subnet": f"10.20.{number}.0/24"}
                for number, role in enumerate(("env", "file", "cmd"))
            ],
        }
    )


def plan(folder: Path, probe: Path) -> str:
    (folder / "user-data.yaml").write_text(f"#cloud-config\n# {USER_DATA_FILE}\n")
    secret = folder / "secret"
    secret.write_text(f"{ADMIN_FILE}\n")
    secret.chmod(0o600)
    vault = folder / "vault.sh"
    vault.write_text(f"#!/bin/sh\ntail -n 1 {folder}/hidden\n")
    vault.chmod(0o700)
    (folder / "hidden").write_text(f"{ADMIN_COMMAND}\n")
    checks = [{"command": [str(probe), "{server.name}"]}]
    return json.dumps(
        {
            "name": "canary",
            "cloud": {"provider": "ecs", "requests_per_second": 200},
            "rollout": {"waves": ["100%"], "concurrency": 4, "max_failures": 5},
            "defaults": {"reinstall": {"timeout": "60s"}, "verify": {"timeout": "5s", "checks": checks}},
            "targets": [
                {
                    "name": "env",
                    "select": {"tags": {"role": "env"}},
                    "reinstall": {
                        "admin_password": {"env": "WEB_ADMIN"},
                        "user_data": {"file": "user-data.yaml"},
                    },
                },
                {
                    "name": "file",
                    "select": {"tags": {"role": "file"}},
                    "reinstall": {
                        "admin_password": {"file": str(secret)},
                        "user_data": {"text": f"#!/bin/sh\n# {USER_DATA_TEXT}\n"},
                    },
                },
                {
                    "name": "cmd",
                    "select": {"tags": {"role": "cmd"}},
                    "reinstall": {"admin_password": {"command": [str(vault)]}},
                },
            ],
        }
    )


class Watch:
    """Collects the command lines of all processes, and the environment of the checks, while a run runs."""

    def __init__(self, probes: Path) -> None:
        self.probes = probes
        self.lines: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            self.lines.update(command_lines())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def command_lines() -> Iterator[bytes]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                yield (Path(entry.path) / "cmdline").read_bytes()
            except OSError:
                continue


def check_state(folder: Path) -> None:
    """Nothing under the state folder knows a secret, but the user data's own copy, which is the owner's."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        if path.parent.name.endswith(".files"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert leaks(path.read_bytes(), NEVER_STORED) == []
        else:
            assert leaks(path.read_bytes()) == [], path


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_no_secret_gets_out(tmp_path: Path, style: str) -> None:
    """Success, failed jobs, refused calls, failing checks that print their environment, wrong passwords."""
    probes = tmp_path / "probes"
    probes.mkdir()
    probe = tmp_path / "probe.sh"
    # Fails on one server after it has printed all it was given, so that its last line gets into the journal.
    probe.write_text(
        f'#!/bin/sh\nenv > "{probes}/$1.env"\ncat > "{probes}/$1.in"\nenv | tr "\\n" " "; [ "$1" != env-2 ]\n'
    )
    probe.chmod(0o700)
    with fleet_on(tmp_path, cloud_text()) as (fleet, cloud), Watch(probes) as watch:
        fleet.env |= environment(cloud.url)
        fleet.anew = True  # a fork has no command line of its own
        path = fleet.plan(plan(tmp_path, probe))
        failing = {"kind": "job-fails", "leaves": "ERROR", "text": f"bad {ADMIN_FILE}"}
        page = {"kind": "html", "status": 502, "text": f"<b>{OS_PASSWORD}</b>"}
        cloud.order(
            failing | {"when": {"server": "file-1", "count": 2}},
            {"kind": "rejected", "code": "Ecs.0219", "when": {"server": "cmd-2"}},
            page | {"when": {"call": "show", "nth": 3}},
        )
        children = [fleet.start("validate", path), fleet.start("preview", path)]
        children[-1].wait()
        log = tmp_path / "kept.log"
        fleet.env["FLEET_LOG_FILE"] = str(log)
        children.append(fleet.start("run", path, "--yes", "--log-format", style))
        done = children[-1].wait()
        assert done.code == 3, done.err
        children += [fleet.start("run", path, "--yes", "--again", env=wrong) for wrong in wrongs()]
        children += [fleet.start("status", "-o", "json"), fleet.start("runs")]
        for child in children:
            check_output(child)
        assert "env-2" in done.out
        check_state(fleet.state)
        assert log.read_text().count("CommandEnded") == 1 + len(wrongs())
        assert leaks(log.read_bytes()) == []
    assert [leaks(line) for line in watch.lines if leaks(line)] == []
    seen = sorted(path.name for path in probes.iterdir())
    assert "env-2.env" in seen
    for probed in probes.iterdir():
        assert leaks(probed.read_bytes()) == [], probed
        if probed.name == "env-2.env":
            assert b"FLEET_SERVER_NAME=env-2" in probed.read_bytes()
            assert b"PATH=" in probed.read_bytes()
            assert b"OS_USERNAME=canary" in probed.read_bytes(), "what is no secret stays"


def environment(url: str) -> dict[str, Any]:
    return {
        "OS_AUTH_URL": f"{url}/v3",
        "OS_USERNAME": "canary",
        "OS_PASSWORD": OS_PASSWORD,
        "OS_USER_DOMAIN_NAME": "simulator",
        "OS_PROJECT_NAME": "sim-1",
        "WEB_ADMIN": ADMIN_ENV,
        "https_proxy": f"http://proxy-user:{PROXY}@127.0.0.1:9",
        "NO_PROXY": "",
    }


def wrongs() -> list[dict[str, str]]:
    """Return environments with which a run fails before it begins."""
    return [
        {"OS_PASSWORD": OS_PASSWORD + "x"},
        {"OS_AUTH_URL": f"https://user:{PROXY}@127.0.0.1:9/v3"},
        {"OS_AUTH_URL": "https://iam.invalid/v3"},
        {"WEB_ADMIN": ADMIN_ENV + "x" * 30},
    ]


def check_output(child: Child) -> None:
    done = child.wait()
    assert leaks(done.out.encode()) == []
    assert leaks(done.err.encode()) == [], done.err


def test_the_state_folder_is_its_owners(tmp_path: Path) -> None:
    """Whatever the umask, nobody else reads the journal, its locks or what was kept."""
    before = os.umask(0)
    try:
        with fleet_on(tmp_path, cloud_text()) as (fleet, cloud):
            fleet.env |= environment(cloud.url)
            probe = tmp_path / "probe.sh"
            probe.write_text("#!/bin/sh\n")
            probe.chmod(0o700)
            assert fleet("run", fleet.plan(plan(tmp_path, probe)), "--yes", "-l", "env-1").code == 0
    finally:
        os.umask(before)
    folder = Fleet(tmp_path).state
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
