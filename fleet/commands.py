"""Commands of the plan: checks, gates and hooks. No shell, a time limit, facts in, output bounded.

Of our own environment they get what holds no secret: cloud passwords are none of their business. Each is the
leader of its own process group, which is killed as a whole when it is over or its time is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.secrets import redact

KEPT_LINE = 300
"""Characters of a failed command's last line that reach the journal."""

KEPT_FILE = 1 << 20
"""Bytes of a command's output that are kept: the first and the last half MiB."""

_HALF = KEPT_FILE // 2
_CHUNK = 65536
_REST_S = 1.0
"""After its end what it has written is still read for so long; who inherited its output may keep it open."""

_USUAL = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "FLEET_STATE_DIR"}
)


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* without the variables that a registered secret is part of.

    PATH stays, whatever it contains: without it a short secret would make every command fail.
    """
    return {name: value for name, value in environ.items() if name == "PATH" or redact(value) == value}


def usual(environ: Mapping[str, str], more: Sequence[str] = ()) -> dict[str, str]:
    """Return of *environ* what any program needs, and *more* by name.

    A list of what is passed on, not of what is not: of other people's variables nobody knows which is a
    secret.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _USUAL or name.startswith(("LC_", "XDG_")) or name in more
    }


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command.

    Attributes:
        why: None when it ended with 0, else why not, in words.
        begun: It was started, so it may have done something.
        code: What it ended with; negative: the signal that killed it; None: it was not started, or its time
            was up.
        output: What it wrote, or the beginning and the end of that.
    """

    why: str | None = None
    begun: bool = True
    code: int | None = None
    output: bytes = b""


async def run_command(
    argv: Sequence[str],
    *,
    folder: str,
    variables: Mapping[str, str],
    stdin: bytes,
    timeout_s: float,
    output: Path | None = None,
) -> str | None:
    """Run a command with our own environment less its secrets, and *variables* on top; the rest: `execute`.

    Returns:
        None when it ended with 0, else why not, in words.
    """
    environment = without_secrets(os.environ) | dict(variables)
    ran = await execute(
        argv, folder=folder, environment=environment, stdin=stdin, timeout_s=timeout_s, output=output
    )
    return ran.why


async def execute(
    argv: Sequence[str],
    *,
    folder: str,
    environment: Mapping[str, str],
    stdin: bytes,
    timeout_s: float,
    output: Path | None = None,
    keep_open: Sequence[int] = (),
) -> Ran:
    """Run a command to its end.

    Args:
        argv: Program and arguments.
        folder: Where it runs.
        environment: All of it.
        stdin: What it can read.
        timeout_s: After so long it is killed, with everything it has started.
        output: A file for its output, for its owner only, secrets blacked out.
        keep_open: File descriptors that it inherits.
    """
    name = os.path.basename(argv[0])  # noqa: PTH119 - a word for a message, no path is touched
    # A pipe of our own: asyncio waits for the end of its pipes, not only of the process, and a daemon that
    # the command has started may keep them open for ever.
    ours, theirs = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            pass_fds=keep_open,
        )
    except BaseException as error:
        os.close(ours)
        if not isinstance(error, OSError):
            raise
        why = f"command {name}: cannot be started: {error.strerror or error}"
        if output is not None:
            _keep(output, f"{why}\n")
        return Ran(why=why, begun=False)
    finally:
        os.close(theirs)
    said = _Said()
    reading = asyncio.create_task(_exchange(process, stdin, ours, said))
    end = f"command {name}: was cut off, since fleet ended\n"
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
        end = f"command {name}: ended with {process.returncode}\n"
    except TimeoutError:
        end = f"command {name}: not done within {timeout_s:g} s\n"
        return Ran(why=end.strip(), output=said.bytes())
    finally:
        # Also when we are cancelled: whatever it started must not outlive the run, nor hold its output open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await process.wait()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_REST_S):
                await reading
        if output is not None:
            _keep(output, f"{redact(said.text())}\n{end}".lstrip())
    code = process.returncode
    if code == 0:
        return Ran(code=0, output=said.bytes())
    last = said.last_line()
    why = f"command {name}: ended with {code}{f': {last}' if last else ''}"
    return Ran(why=why, code=code, output=said.bytes())


class _Said:
    """What a command has said: its beginning, and its end."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = b""
        self._size = 0

    def add(self, chunk: bytes) -> None:
        room = _HALF - len(self._head)
        self._head += chunk[:room]
        self._tail = (self._tail + chunk[room:])[-_HALF:]
        self._size += len(chunk)

    @property
    def _lost(self) -> int:
        return self._size - len(self._head) - len(self._tail)

    def bytes(self) -> bytes:
        return bytes(self._head) + self._tail

    def text(self) -> str:
        head, tail = (part.decode(errors="replace") for part in (self._head, self._tail))
        if not self._lost:
            return self.bytes().decode(errors="replace")
        # The line that was cut through is left out: half a secret is recognised by nobody.
        head, tail = head.rpartition("\n")[0], tail.partition("\n")[2]
        return f"{head}\n… about {self._lost} bytes were not kept\n{tail}"

    def last_line(self) -> str:
        # Blacked out before it is cut, for the same reason. Of a last line that is longer than what was
        # kept nothing is said.
        lines = (
            self.text().strip().splitlines()
            if self._lost
            else self.bytes().decode(errors="replace").split("\n")
        )
        lines = [line for line in lines if line.strip()]
        if not lines or (self._lost and b"\n" not in self._tail):
            return ""
        return redact(lines[-1].strip())[:KEPT_LINE]


async def _exchange(process: asyncio.subprocess.Process, stdin: bytes, output: int, said: _Said) -> None:
    """Give a process its input, and read what it says to the end."""
    assert process.stdin is not None  # noqa: S101 - asked for
    reader = asyncio.StreamReader(limit=_CHUNK)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", 0)
    )
    try:
        with contextlib.suppress(OSError):  # it need not read what it is given
            process.stdin.write(stdin)
            process.stdin.close()
        while chunk := await reader.read(_CHUNK):
            said.add(chunk)
    finally:
        transport.close()


def _keep(path: Path, text: str) -> None:
    """Write what was said to a file. That it cannot be written must not stop a run."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", errors="replace") as file:
            file.write(text)
