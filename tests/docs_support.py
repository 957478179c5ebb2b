"""The documentation as the tests see it: pages, headings, links, fenced blocks, and a shell that runs them.

How a page says what a test is to make of a block, in a comment right before it that no reader sees::

    <!-- not run: why not -->            commands that cannot be run here; they are parsed, counted and listed
    <!-- file: night.yaml -->            the block is the content of a file that later commands use
    <!-- part of a plan -->              YAML that is completed (whom, with which key pair) and then validated
    <!-- not a plan -->                  YAML of something else
    <!-- varies -->                      numbers in the output shown are compared by their place alone

A comment that begins with ``setup`` holds shell commands that are run where it stands. ``# exits 3`` behind a
command says its exit code, when it is not 0. In what is shown of an output ``…`` stands for anything.

Where a test differs from a reader: `SUBSTITUTES` below, a simulator that is faster (by its environment), and
a ``timeout -s KILL`` that waits for servers to be in flight instead of for its seconds.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SHELLS = frozenset({"sh", "bash", "console"})
LANGUAGES = SHELLS | {"yaml", "text", "json", "python", "toml", "cron", "ini"}
SPEED = "150"
PATIENCE_S = 100.0

_FENCE = re.compile(r"^( *)(```+)([\w-]*)\s*$")
_HEADING = re.compile(r"^(#{1,6}) +(.*?)(?: #+)?$")
_LINK = re.compile(r"(?<!\!)\[[^\]\[]*(?:\[[^\]]*\])?[^\]\[]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_EXITS = re.compile(r"#\s*exits (\d+)\b")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")


def pages() -> list[Path]:
    """Return every page that people are sent to."""
    return sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass
class Block:
    """A fenced block, or a ``setup`` comment.

    Attributes:
        language: Of the fence; ``setup`` for a comment.
        line: Of the file, counted from 1: the fence's.
        notes: Words of the comment before it, by their first part.
    """

    language: str
    line: int
    lines: list[str]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


@dataclass
class Command:
    """A command as a reader would type it, and what he is shown.

    Attributes:
        shown: Lines of output that the page shows; empty: none are compared.
    """

    text: str
    line: int
    shown: list[str] = field(default_factory=list)
    varies: bool = False

    @property
    def exits(self) -> int:
        found = _EXITS.search(self.text)
        return int(found[1]) if found else 0


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    found: list[Block] = []
    notes: dict[str, str] = {}
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in lines:
        if line.lstrip().startswith("<!--"):
            comment = [line]
            while "-->" not in comment[-1]:
                comment.append(next(lines)[1])
            words = "\n".join(comment).strip().removeprefix("<!--").removesuffix("-->").strip("\n ")
            if words.startswith("setup"):
                found.append(Block("setup", number, words.splitlines()[1:]))
            else:
                first, _, rest = words.partition(":")
                notes[first.strip()] = rest.strip()
            continue
        fence = _FENCE.match(line)
        if fence:
            inside = []
            for _, each in lines:
                if each.strip() == fence[2]:
                    break
                inside.append(each.removeprefix(fence[1]))
            found.append(Block(fence[3], number, inside, notes))
        if line.strip():
            notes = {}
    return found


def commands(block: Block) -> list[Command]:
    """Return what is to be typed of a block of shell commands."""
    if block.language == "console":
        return list(_typed(block))
    found: list[Command] = []
    waiting: list[str] = []
    until: str | None = None
    for offset, line in enumerate(block.lines, 1):
        if not waiting and (not line.strip() or line.lstrip().startswith("#")):
            continue
        waiting.append(line)
        heredoc = _HEREDOC.search(line)
        if until is None and heredoc:
            until = heredoc[2]
        elif until is not None and line.strip() == until:
            until = None
        text = "\n".join(waiting)
        if until is None and not line.endswith("\\") and text.count("'") % 2 == 0:
            found.append(Command(text, block.line + offset))
            waiting = []
    assert not waiting, f"line {block.line}: a command that does not end: {waiting}"
    return found


def _typed(block: Block) -> Iterator[Command]:
    command: Command | None = None
    for offset, line in enumerate(block.lines, 1):
        if line.startswith("$ "):
            if command is not None:
                yield command
            command = Command(line[2:], block.line + offset, varies="varies" in block.notes)
        elif line.startswith("> ") and command is not None and not command.shown:
            command.text += "\n" + line[2:]
        elif command is not None and command.text.endswith("\\"):
            command.text += "\n" + line
        elif line.strip():
            assert command is not None, f"line {block.line}: output before any command"
            command.shown.append(line)
    if command is not None:
        yield command


# -- links ----------------------------------------------------------------------------------------------


def prose(page: Path) -> list[str]:
    """Return the lines of a page that are in no block and no comment."""
    kept: list[str] = []
    ends: str | None = None
    for line in page.read_text().splitlines():
        if ends is not None:
            ends = None if (line.strip() == ends or (ends == "-->" and "-->" in line)) else ends
        elif fence := _FENCE.match(line):
            ends = fence[2]
        elif line.lstrip().startswith("<!--"):
            ends = None if "-->" in line else "-->"
        else:
            kept.append(line)
    return kept


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as forges make them."""
    found: set[str] = set()
    for line in prose(page):
        if heading := _HEADING.match(line):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[2])
            plain = re.sub(r"[`*]", "", plain)
            name = re.sub(r"[^\w\- ]", "", plain.lower(), flags=re.ASCII).replace(" ", "-")
            base, number = name, 0
            while name in found:
                number += 1
                name = f"{base}-{number}"
            found.add(name)
    return found


def links(page: Path) -> list[str]:
    """Return where a page's links and pictures point."""
    text = re.sub(r"`[^`\n]*`", "`code`", "\n".join(prose(page)))
    return [first or second for first, second in _LINK.findall(text)]


# -- running --------------------------------------------------------------------------------------------

SUBSTITUTES = (
    (re.compile(r"127\.0\.0\.1:8090\b"), "127.0.0.1:{port}"),
    (re.compile(r"--speed \d+\b"), "--speed " + SPEED),
    (re.compile(r"(?<![\w./])/(etc/fleet|var/lib/prometheus|var/log/fleet)\b"), r"{home}/\1"),
    (re.compile(r"(?<![\w./])/opt/fleet/bin/fleet\b"), "fleet"),
)
"""What a test puts in place of a reader's words: its own port, a faster cloud, folders that it may write."""

_KILLER = r"""#!/usr/bin/env bash
# timeout -s KILL SECONDS COMMAND…: kills when the newest journal says that servers are being wiped.
[ "$1 $2" = "-s KILL" ] || exec /usr/bin/timeout "$@"
shift 3
marker=$(mktemp)
"$@" < /dev/null & child=$!
for _ in $(seq 2000); do
    for journal in $(find "$HOME/.local/state/fleet" -name journal.jsonl -newer "$marker" 2> /dev/null); do
        [ "$(grep -c '"event":"ReinstallAccepted"' "$journal")" -ge 4 ] || continue
        kill -KILL $child
        break 2
    done
    kill -0 $child 2> /dev/null || break
    sleep 0.05
done
wait $child
"""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Shell:
    """One shell for one page: what a command exports, starts or changes into holds for those after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._shims()
        (folder / "etc" / "fleet").mkdir(parents=True)
        self._work = folder / ".steps"
        self._work.mkdir()
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd=folder, env=self._environment(), start_new_session=True, text=True,
            pass_fds=(slave,),
        )  # fmt: skip
        self._tty = os.ttyname(slave)
        self._slave = slave
        self._number = 0

    def _shims(self) -> None:
        bins = self.folder / ".shims"
        bins.mkdir()
        scripts = {
            "fleet": f'#!/bin/sh\nexec "{sys.executable}" -m fleet "$@"\n',
            "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
            "timeout": _KILLER,
        }
        for name, text in scripts.items():
            (bins / name).write_text(text)
            (bins / name).chmod(0o755)
        (self.folder / ".venv" / "bin").mkdir(parents=True)
        (self.folder / ".venv" / "bin" / "activate").write_text("")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / '.shims'}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(self.folder),
            "USER": "deploy",
            "LOGNAME": "deploy",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "TERM": "dumb",
            "COLUMNS": "110",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
            "FLEET_SIMULATOR_SPEED": SPEED,
            "FLEET_SIMULATOR_PORT": str(self.port),
            "FLEET_SIMULATOR_IDLE_EXIT": "150",
        }

    def substitute(self, text: str) -> str:
        for pattern, words in SUBSTITUTES:
            text = pattern.sub(
                words.replace("{port}", str(self.port)).replace("{home}", str(self.folder)), text
            )
        return text

    def run(self, command: Command) -> tuple[int, str]:
        """Run a command in the page's shell; return its exit code and everything that it wrote."""
        self._number += 1
        step, out, code = (self._work / f"{self._number}.{kind}" for kind in ("sh", "out", "rc"))
        text = self.substitute(command.text)
        step.write_text(text + "\n")
        prompts = (re.match(r"Type the .*: (\S+)$", line) for line in command.shown)
        typed = [prompt[1] for prompt in prompts if prompt]
        stdin = self._tty if typed else "/dev/null"
        for answer in typed:
            os.write(self._master, f"{answer}\n".encode())
        after = ""
        if re.search(r"\bfleet simulator\b.*&\s*(#.*)?$", text, re.DOTALL):
            after = f"until (exec 3<>/dev/tcp/127.0.0.1/{self.port}) 2>/dev/null; do sleep 0.05; done;"
        assert self._process.stdin is not None
        self._process.stdin.write(
            f". '{step}' > '{out}' 2>&1 < {stdin}; rc=$?; {after}"
            f" echo $rc > '{code}.new'; mv '{code}.new' '{code}'\n"
        )
        self._process.stdin.flush()
        before = time.monotonic()
        self._wait_for(code, command, out)
        if os.environ.get("DOCS_TIMES"):  # which of them is slow
            print(f"{time.monotonic() - before:6.1f} s  {command.text}")
        return int(code.read_text()), out.read_text(errors="replace")

    def _wait_for(self, code: Path, command: Command, out: Path) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not code.exists():
            said = out.read_text(errors="replace")[-2000:] if out.exists() else ""
            assert self._process.poll() is None, f"the shell ended in: {command.text}\n{said}"
            assert time.monotonic() < deadline, f"does not end: {command.text}\n{said}"
            time.sleep(0.01)

    def close(self) -> None:
        """End the shell with everything that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        os.close(self._master)
        os.close(self._slave)


# -- comparing ------------------------------------------------------------------------------------------

_ALIKE = (
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\b\d{8}T\d{6}Z-[0-9a-z]{4}\b"), "RUNID"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?Z| UTC)?"), "TIME"),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"\bfleet \d+\.\d+\.\w+"), "fleet VERSION"),
    (re.compile(r"\b(\d+(\.\d+)? ?(ms|min|s|m|h|d) ?)+(?!\w)"), "SPAN "),
)


def _plain(line: str, shell: Shell, *, varies: bool) -> str:
    for pattern, word in _ALIKE:
        line = pattern.sub(word, line)
    for there in ("/etc/fleet", "/var/lib/prometheus", "/var/log/fleet"):
        line = line.replace(f"{shell.folder}{there}", there)
    line = line.replace(str(shell.folder), "~")
    if varies:
        line = re.sub(r"\d+", "N", line)
    return " ".join(line.split())


def missing(command: Command, output: str, shell: Shell) -> str | None:
    """Return the first line shown that the output has not, in this order; None: it has all of them."""
    told = [_plain(line, shell, varies=command.varies) for line in output.splitlines()]
    at = 0
    for line in command.shown:
        wanted = _plain(line, shell, varies=command.varies)
        if wanted in {"…", "..."}:
            continue
        if typed := re.match(r"(Type the .*:) \S+$", wanted):
            pattern = re.escape(typed[1]) + ".*"
        else:
            pattern = re.escape(wanted).replace("…", ".*").replace(re.escape("..."), ".*")
        found = next((n for n, each in enumerate(told[at:], at) if re.fullmatch(pattern, each)), None)
        if found is None:
            return line
        at = found if typed else found + 1
    return None
