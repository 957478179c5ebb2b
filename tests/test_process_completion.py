"""Completion in real shells, sourced as a user would: commands, runs, and servers that a command may take."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from process_support import PATIENCE_S
from support import AT, make_run

from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.journal import Journal

pytestmark = pytest.mark.process

RUN = "web-20260101T000000Z-abcd"
ODD = "7f3e9c1a"
"""Id of a server whose name no shell would take as one word."""

CASES = [
    # what is typed, what is offered, what is not
    ("fleet re", {"release", "rehearse", "report", "resume", "retry"}, {"skip"}),
    ("fleet status we", {RUN}, set()),
    (f"fleet retry {RUN} ", {"db-1", "db-2"}, {"db-3", ODD}),
    (f"fleet skip {RUN} db-1 ", {"db-2", "db-3", ODD}, {"db-1"}),
    (f"fleet abandon {RUN} ", {"db-4"}, {"db-1"}),
    (f"fleet approve {RUN} --target ", {"db"}, set()),
    ("fleet run plan.yaml --limit d", {"db-1", "db-5"}, set()),
    ("fleet run plan.yaml --log-f", {"--log-format", "--log-file"}, set()),
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A run of which db-1 and db-2 have failed, db-4 is in flight, and the others wait; and its plan."""
    opened = msgspec.structs.replace(make_run(targets=("db",)).opened, run=RUN)
    members = list(opened.members)
    members[-1] = msgspec.structs.replace(members[-1], id=ServerId(ODD), name="db six; rm")
    journal = tmp_path / "state" / RUN / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    book = Journal.create(journal)
    book.append(msgspec.structs.replace(opened, members=tuple(members)), AT)
    for name in ("db-1", "db-2", "db-4"):
        book.append(ev.Admitted(server=ServerId(name)), AT)
    for name in ("db-1", "db-2"):
        book.append(ev.Failed(server=ServerId(name), reason="no capacity:\nin its zone"), AT)
    book.close()
    (tmp_path / "plan.yaml").write_text("# a plan\nname: web\nselect: {tags: {role: db}}\n")
    program = tmp_path / "bin" / "fleet"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom fleet.__main__ import main\nmain()\n")
    program.chmod(0o755)
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HOME": str(tmp_path),
        "FLEET_STATE_DIR": str(tmp_path / "state"),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "COLUMNS": "200",
    }


def in_bash(environment: dict[str, str]) -> Callable[[str], set[str]]:
    script = """
    set -e
    source <(fleet completion bash)
    complete -p fleet >/dev/null
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    _fleet_completion fleet
    printf '%s\\n' "${COMPREPLY[@]}"
    """

    def offered(line: str) -> set[str]:
        done = subprocess.run(
            ["bash", "-c", script, "bash", *line.split(" ")],
            env=environment, cwd=environment["HOME"], capture_output=True, text=True, check=True,
        )  # fmt: skip
        return set(done.stdout.splitlines())

    return offered


def in_fish(environment: dict[str, str]) -> Callable[[str], set[str]]:
    def offered(line: str) -> set[str]:
        done = subprocess.run(
            ["fish", "-c", f"fleet completion fish | source; complete -C {json.dumps(line)}"],
            env=environment, cwd=environment["HOME"], capture_output=True, text=True, check=True,
        )  # fmt: skip
        return {each.partition("\t")[0] for each in done.stdout.splitlines()}

    return offered


class Terminal:
    """An interactive zsh, and what it shows."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x32\x00\xc8\x00\x00\x00\x00\x00")  # 50 x 200
        self._process = subprocess.Popen(
            ["zsh", "-f", "-i"], stdin=slave, stdout=slave, stderr=slave, env=environment,
            cwd=environment["HOME"], start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._seen = ""
        # Typed in pieces, so that what we wait for is an answer and no echo.
        self.type(
            "PS1='rea''dy> '; autoload -Uz compinit && compinit -u -D; source <(fleet completion zsh)\n"
        )
        self.type("print so''urced\n")
        self.wait_for(lambda seen: "ready> " in seen.partition("sourced")[2])

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, wanted: Callable[[str], bool]) -> str:
        """Return what was shown since it was asked last, as soon as it is what is wanted."""
        deadline = time.monotonic() + PATIENCE_S
        while not wanted(self._seen):
            assert time.monotonic() < deadline, f"not shown: {self._seen[-2000:]!r}"
            if select.select([self._master], [], [], 1.0)[0]:
                self._seen += os.read(self._master, 65536).decode(errors="replace")
        seen, self._seen = self._seen, ""
        return seen

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


def words(seen: str, line: str) -> set[str]:
    """Return the words that were shown, but for those that were typed."""
    return set(re.findall(r"[\w-]+", re.sub(rf"{re.escape(line.strip())}(?!\S)", " ", seen)))


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_offers_what_can_be_meant(environment: dict[str, str], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    offered = in_bash(environment) if shell == "bash" else in_fish(environment)
    for line, those, others in CASES:
        found = offered(line)
        assert those <= found, line
        assert not others & found, line


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_offers_it_with_why_a_server_failed(environment: dict[str, str]) -> None:
    """Typed at its prompt, in a terminal."""
    terminal = Terminal(environment)
    try:
        for line, those, others in CASES:
            # The first key puts in what all have in common, the second shows them.
            terminal.type(line + ("\t" if len(those) == 1 else "\t\t"))
            seen = terminal.wait_for(lambda seen, line=line, those=those: those <= words(seen, line))
            assert not others & words(seen, line), seen
            if " retry " in line:
                assert "failed: no capacity: in its zone" in seen
            terminal.type("\x15print ne''xt\n")
            terminal.wait_for(lambda seen: "ready> " in seen.partition("\nnext")[2])
    finally:
        terminal.close()


def test_whatever_is_broken_nothing_is_offered_and_nothing_said(environment: dict[str, str]) -> None:
    """A traceback in the middle of a line that somebody types would be worse."""
    journal = Path(environment["FLEET_STATE_DIR"]) / RUN / "journal.jsonl"
    journal.write_bytes(b"\xff broken\n")
    with contextlib.chdir(environment["HOME"]):
        Path("plan.yaml").unlink()
    for line in (f"fleet retry {RUN} d", f"fleet approve {RUN} --target d", "fleet run plan.yaml --limit d"):
        asked = environment | {
            "_FLEET_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)
        }  # fmt: skip
        done = subprocess.run(
            ["fleet"], env=asked, cwd=environment["HOME"], capture_output=True, text=True, check=False
        )  # fmt: skip
        assert (done.stdout.strip(), done.stderr) == ("", ""), line


def test_commands_and_runs_are_offered_without_the_heavy_modules(environment: dict[str, str]) -> None:
    """Somebody waits with a finger on the key."""
    script = (
        "import sys; sys.argv = ['fleet']; from fleet.cli.main import run_command_line; run_command_line();"
        "print('loaded', *sys.modules)"
    )
    heavy = {"aiohttp", "pydantic", "rich", "yaml", "structlog", "jinja2"}
    for line, more in (
        ("fleet re", {"msgspec"}),
        ("fleet status we", {"asyncio"}),
        (f"fleet retry {RUN} d", set()),
    ):
        asked = environment | {
            "_FLEET_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", script], env=asked,
            cwd=environment["HOME"], capture_output=True, text=True, check=True,
        )  # fmt: skip
        offered, _, loaded_words = done.stdout.partition("loaded")
        loaded = set(loaded_words.split())
        assert "plain," in offered, line
        assert not loaded & (heavy | more), line
