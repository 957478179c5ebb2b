"""Hooks as real processes: what they are given, what is kept of them, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support import make_run

from fleet.commands import usual
from fleet.core.settings import Hooks as Plan
from fleet.hooks import CommandHooks, NoHooks, run_hook

ABOUT = {"server_id": "id-1", "server_name": "web-1", "server_tags": {"role": "web"}, "wave": "2"}


@pytest.fixture
def hooks(tmp_path: Path) -> CommandHooks:
    (tmp_path / "plan").mkdir()
    (tmp_path / "run").mkdir()
    return CommandHooks(str(tmp_path / "plan"), tmp_path / "run" / "journal.jsonl")


def python(code: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *words)


async def test_facts_folder_and_environment(
    hooks: CommandHooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_PASSWORD", "S3cret-1")
    monkeypatch.setenv("LB_TOKEN", "S3cret-2")
    monkeypatch.setenv("KUBECONFIG", "/etc/kube")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    code = "import json, os, sys; print(json.dumps([dict(os.environ), json.load(sys.stdin), os.getcwd()]))"
    ran = await hooks.run("do-1", python(code), ABOUT, 30.0, ("KUBECONFIG", "NOT_THERE"))
    assert ran.why is None
    environment, told, folder = json.loads(ran.output)
    assert told == {"hook": "do-1", **ABOUT}
    assert environment["FLEET_HOOK"] == "do-1"
    assert environment["FLEET_SERVER_NAME"] == "web-1"
    assert "FLEET_SERVER_TAGS" not in environment, "that is no text"
    assert environment["KUBECONFIG"] == "/etc/kube"
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["PATH"] == os.environ["PATH"]
    assert not {"OS_PASSWORD", "LB_TOKEN", "NOT_THERE"} & set(environment)
    assert folder == str(tmp_path / "plan")


def test_what_is_not_on_the_list_is_not_passed_on() -> None:
    ours = {
        "PATH": "/bin",
        "HOME": "/root",
        "AWS_SECRET_ACCESS_KEY": "x",
        "HW_ACCESS_KEY": "x",
        "OS_TOKEN": "x",
    }
    assert usual(ours) == {"PATH": "/bin", "HOME": "/root"}
    assert usual(ours, ["OS_TOKEN"]) == {"PATH": "/bin", "HOME": "/root", "OS_TOKEN": "x"}


async def test_its_output_is_kept_for_its_owner_only(hooks: CommandHooks, tmp_path: Path) -> None:
    await hooks.run("undo-1", python("print('first')"), ABOUT, 30.0)
    ran = await hooks.run("undo-1", python("import sys; sys.exit('pool is busy')"), ABOUT, 30.0)
    assert ran.why == f"command {os.path.basename(sys.executable)}: ended with 1: pool is busy"  # noqa: PTH119
    [log] = (tmp_path / "run" / "hooks").glob("*.log")
    assert log.name == "id-1-undo-1.log"
    assert log.read_text().index("first") < log.read_text().index("pool is busy")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


async def test_an_odd_id_stays_in_the_folder(hooks: CommandHooks, tmp_path: Path) -> None:
    await hooks.run("do-1", python("print(1)"), {"server_id": "../../x/y"}, 30.0)
    [log] = (tmp_path / "run" / "hooks").glob("*.log")
    assert log.parent == tmp_path / "run" / "hooks"
    assert not (tmp_path / "x").exists()


async def test_what_cannot_be_started_has_not_begun(hooks: CommandHooks, tmp_path: Path) -> None:
    nobody = await hooks.run("do-1", (str(tmp_path / "nothing-there"),), ABOUT, 30.0)
    assert (nobody.begun, nobody.code) == (False, None)
    assert "cannot be started: No such file" in str(nobody.why)
    late = await hooks.run("do-1", python("import time; time.sleep(600)"), ABOUT, 0.3)
    assert (late.begun, late.code) == (True, None)
    assert "not done within 0.3 s" in str(late.why)


async def test_no_shell_reads_it(hooks: CommandHooks, tmp_path: Path) -> None:
    word = f"$(touch {tmp_path}/pwned); `touch {tmp_path}/pwned`"
    ran = await hooks.run("do-1", python("import sys; print(sys.argv[1])", word), ABOUT, 30.0)
    assert ran.output.decode().strip() == word
    assert not (tmp_path / "pwned").exists()


async def test_hooks_about_one_server_take_turns_and_others_do_not_wait(
    hooks: CommandHooks, tmp_path: Path
) -> None:
    """Should two be asked for at a time: the second one must not take the first one for an orphan."""
    code = "import os, sys, time; os.mkdir(sys.argv[1]); time.sleep(0.3); os.rmdir(sys.argv[1])"
    folder = str(tmp_path / "only-one")
    twice = [hooks.run("do-1", python(code, folder), ABOUT, 30.0) for _ in range(3)]
    assert [ran.why for ran in await asyncio.gather(*twice)] == [None, None, None]


async def test_a_hook_of_a_dead_life_is_ended_first(hooks: CommandHooks, tmp_path: Path) -> None:
    """It holds the lock that it has inherited; its children go with it."""
    lock = tmp_path / "run" / "hooks" / "id-1.lock"
    lock.parent.mkdir(mode=0o700)
    code = (
        "import fcntl, os, subprocess, sys, time; "
        f"fd = os.open({str(lock)!r}, os.O_RDWR | os.O_CREAT, 0o600); fcntl.flock(fd, fcntl.LOCK_EX); "
        "print('locked', flush=True); subprocess.run(['sleep', '600'])"
    )
    orphan = await asyncio.create_subprocess_exec(
        *python(code), stdout=subprocess.PIPE, start_new_session=True
    )
    assert orphan.stdout is not None
    assert await orphan.stdout.readline() == b"locked\n"
    ran = await hooks.run("undo-1", python("print('done')"), ABOUT, 30.0)
    assert ran.why is None
    assert await orphan.wait() == -9


async def test_a_folder_that_cannot_be_written_stops_no_hook(tmp_path: Path) -> None:
    """On a full disk servers are still to be given back."""
    (tmp_path / "file").touch()
    hooks = CommandHooks(str(tmp_path), tmp_path / "file" / "journal.jsonl")
    assert (await hooks.run("undo-1", python("print(1)"), ABOUT, 30.0)).why is None


async def test_no_hook_is_a_good_hook() -> None:
    run = make_run(2)
    assert await run_hook(NoHooks(), run, "before_run", {}) is None
    assert Plan().before_run is None
