"""Orders for a run that is being worked on: over a socket beside its journal, answered at once.

The process speaks first, and an order is sent only after its greeting. So an order that was given up is not
carried out later: a process that is stopped, or on a machine that is suspended, greets nobody. What has been
sent and is not answered may have been carried out; that is said, and never guessed.

Each line is one JSON value: the greeting (run and pid), the order, the answer. Answers are words, with
``error: `` before those that say why not; null says that the process ends and has done nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import msgspec

from fleet.errors import FleetError, JournalError
from fleet.runs import make_folder
from fleet.steering import Order

GREETING_S = 5.0
"""How long a command waits to be greeted. A process that works does so within milliseconds."""

ANSWER_S = 10.0
"""How long a command waits for its answer: a decision, and a write to the journal."""

ORDER_S = 30.0
"""How long a process waits for an order of somebody it has greeted."""

HANG_UP_S = 1.0
"""How long an answer may take to be read before the connection is cut."""

LAST_MOMENT_S = 0.01
"""Some passes of the loop, which it takes from an accepted connection to whoever serves it."""

_CLIENTS = 16
"""Connections kept; beyond them the oldest is closed. Who connects and says nothing is in nobody's way."""

_LONGEST = 1 << 20
"""Bytes of an order: names of thousands of servers, and no more."""

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


class Greeting(msgspec.Struct, frozen=True):
    """What a process says to whoever connects."""

    run: str
    pid: int


def _folder(journal: Path) -> Path:
    return journal.with_name(journal.name + ".control")


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """Yield the socket's address, which the kernel wants within 108 bytes, however long the path is."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/socket"
    finally:
        os.close(descriptor)


def _peer(connection: socket.socket) -> int:
    """Return the uid at the other end, as the kernel noted it."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(found)[1]
    return uid


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user may have no name
        return f"uid {uid}"


class Control:
    """The receiving end, made by the process that holds the run's lock.

    Args:
        journal: Of the run.
        run: Its id, for the greeting.
        carry_out: Does what an order says and returns words; a FleetError says why not.
    """

    def __init__(self, journal: Path, run: str, carry_out: Callable[[Order], str]) -> None:
        self._folder = _folder(journal)
        self._greeting = msgspec.json.encode(Greeting(run, os.getpid())) + b"\n"
        self._carry_out = carry_out
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], None] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Listen, in place of a process that has died.

        Raises:
            JournalError: It cannot be: no order can reach this life. Nothing else is the worse for it.
        """
        make_folder(self._folder)
        try:
            self._server = await asyncio.start_unix_server(self._greet, sock=self._bound(), limit=_LONGEST)
        except OSError as error:
            raise JournalError(
                f"no orders can be taken: no socket in {self._folder}: {error.strerror or error}"
            ) from error

    def _bound(self) -> socket.socket:
        if self._folder.stat().st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "the folder is somebody else's")
        self._folder.chmod(0o700)
        listening = socket.socket(socket.AF_UNIX)
        try:
            with _address(self._folder) as address:
                # Whoever died has left it behind. We hold the run's lock: nobody listens there.
                Path(address).unlink(missing_ok=True)
                os.fchmod(listening.fileno(), 0o600)  # before it has a name
                listening.bind(address)
        except BaseException:
            listening.close()
            raise
        return listening

    async def close(self) -> None:
        """Listen no more. Whoever was greeted hears that nothing was done; the socket is gone."""
        self._closed = True
        if self._server is None:
            return
        self._remove()
        for task in self._clients:
            task.cancel()
        # asyncio loses a connection that it has accepted, and not yet handed over, when its server closes.
        await asyncio.sleep(LAST_MOMENT_S)
        self._server.close()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _remove(self) -> None:
        with contextlib.suppress(OSError), _address(self._folder) as address:
            Path(address).unlink()
            self._folder.rmdir()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one order of one client. asyncio makes a task for each."""
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 - a coroutine that runs is in a task
        self._serving.add(me)
        try:
            if not self._closed:  # else it has connected in the last moment
                await self._take(me, reader, writer)
        finally:
            await _hang_up(writer)
            self._serving.discard(me)

    async def _take(
        self, me: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while len(self._clients) >= _CLIENTS:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            oldest.cancel()
        self._clients[me] = None
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(ORDER_S):
                    await self._serve(reader, writer)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                writer.write(b"null\n")
        finally:
            self._clients.pop(me, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = _peer(writer.get_extra_info("socket"))
        if uid not in {0, os.geteuid()}:
            return
        writer.write(self._greeting)
        try:
            line = await reader.readline()
            if not line.endswith(b"\n"):
                return  # gone, or only a look
            order = msgspec.json.decode(line, type=Order)
        except (ValueError, msgspec.MsgspecError) as error:  # too long, or rubbish
            answer = f"error: this is no order: {error}"
        else:
            # From here on nothing is awaited: it is done and answered, or neither.
            answer = self._done(order, _account(uid))
        writer.write(msgspec.json.encode(answer) + b"\n")

    def _done(self, order: Order, account: str) -> str:
        """Carry out what the account's owner wants, under the name that the kernel vouches for."""
        by = account if order.by in {"", account} else f"{order.by} ({account})"
        try:
            return self._carry_out(msgspec.structs.replace(order, by=by))
        except FleetError as error:
            return f"error: {error}"


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, and be sure of it; whoever does not read what was written is not waited for."""
    writer.close()
    try:
        async with asyncio.timeout(HANG_UP_S):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


def ask(journal: Path, order: Order) -> str | None:
    """Give *order* to the process that works on a run; return its answer, or None: it got no order.

    Raises:
        FleetError: It was sent, and no answer came: it may have been carried out, or may still be.
    """
    with (
        socket.socket(socket.AF_UNIX) as connection,
        connection.makefile("r", encoding="utf-8", newline="\n") as lines,
    ):
        connection.settimeout(GREETING_S)
        try:
            with _address(_folder(journal)) as address:
                connection.connect(address)
            if os.geteuid() != 0 and _peer(connection) not in {0, os.geteuid()}:
                return None
            msgspec.json.decode(_line(lines), type=Greeting)
        except (OSError, ValueError, msgspec.MsgspecError):
            return None  # nobody there, nobody awake, or not one of ours: nothing was sent
        try:
            connection.settimeout(ANSWER_S)
            connection.sendall(msgspec.json.encode(order) + b"\n")
            return msgspec.json.decode(_line(lines), type=str | None)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise FleetError(
                "the order was sent, and no answer came: it may have been carried out, or may still be",
                hint="`fleet status` shows whether it was; give it again if not",
            ) from error


def _line(lines: TextIO) -> str:
    """Return the next line, whole, or raise OSError."""
    if not (line := lines.readline()).endswith("\n"):
        raise ConnectionResetError("closed")
    return line
