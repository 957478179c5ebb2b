"""Orders over a socket: who is heard, what is answered, and that nothing is carried out later."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fleet import control
from fleet.control import Control, ask
from fleet.errors import FleetError, JournalError, PlanError, Problem
from fleet.steering import Order

ORDER = Order(verb="hold", reason="the pager rings", by="ann")


class Served:
    """A process's receiving end, in a thread of its own."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.socket = journal.with_name(journal.name + ".control") / "socket"
        self.orders: list[Order] = []
        self.loop = asyncio.new_event_loop()
        self.control = Control(journal, "p-1", self.carry_out)
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.do(self.control.open())

    def do(self, what: object) -> None:
        asyncio.run_coroutine_threadsafe(what, self.loop).result(30)  # type: ignore[arg-type]

    def carry_out(self, order: Order) -> str:
        self.orders.append(order)
        if order.verb == "skip":
            raise PlanError(Problem("0 servers are called 'web-9'"))
        return "held; nobody is in flight"

    def stop(self) -> None:
        self.do(self.control.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    @contextlib.contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as client, control._address(self.socket.parent) as address:
            client.settimeout(30)
            client.connect(address)
            yield client


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path / "journal.jsonl")
    yield found
    found.stop()


def greeted(client: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += client.recv(1)
    return line


def rest(client: socket.socket) -> bytes:
    found = b""
    while more := client.recv(4096):
        found += more
    return found


def test_an_order_is_carried_out_and_answered(served: Served) -> None:
    """At once, by the name that was given and the account that the kernel saw."""
    assert ask(served.journal, ORDER) == "held; nobody is in flight"
    [order] = served.orders
    assert order.by == f"ann ({getpass.getuser()})"
    mine = msgspec.structs.replace(ORDER, by=getpass.getuser(), verb="skip")
    assert (ask(served.journal, mine) or "").startswith("error: 0 servers are called 'web-9'")
    assert served.orders[1].by == getpass.getuser()


def test_socket_and_folder_are_for_their_owner_only(served: Served) -> None:
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(served.socket.parent.stat().st_mode) == 0o700


def test_nobody_there_gets_nothing(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    assert ask(journal, ORDER) is None
    assert list(tmp_path.iterdir()) == []


def test_the_socket_of_a_dead_process_is_replaced_and_goes_with_its_life(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    folder = tmp_path / "journal.jsonl.control"
    folder.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "socket"))
    assert ask(journal, ORDER) is None
    assert (folder / "socket").exists(), "who asks does not clear up: it holds no lock"
    served = Served(journal)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert ask(journal, ORDER) == "held; nobody is in flight"
    served.stop()
    assert list(tmp_path.iterdir()) == []


def test_paths_may_be_longer_than_a_socket_s_address(tmp_path: Path) -> None:
    """The kernel takes 108 bytes; a run's folder below a long home has more."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    served = Served(deep / f"{'j' * 150}.jsonl")
    assert ask(served.journal, ORDER) == "held; nobody is in flight"
    served.stop()


def test_an_order_is_not_sent_before_the_greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped greets nobody: nothing lies in its socket for when it wakes up."""
    monkeypatch.setattr(control, "GREETING_S", 0.2)
    journal = tmp_path / "journal.jsonl"
    (tmp_path / "journal.jsonl.control").mkdir()
    with socket.socket(socket.AF_UNIX) as asleep:
        asleep.bind(str(tmp_path / "journal.jsonl.control" / "socket"))
        asleep.listen()
        assert ask(journal, ORDER) is None
        client, _ = asleep.accept()
        with client:
            client.settimeout(10)
            assert client.recv(4096) == b""


def test_an_order_that_is_not_answered_may_have_been_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that nothing happened when that is not known."""
    monkeypatch.setattr(control, "ANSWER_S", 0.2)
    journal = tmp_path / "journal.jsonl"
    (tmp_path / "journal.jsonl.control").mkdir()
    with socket.socket(socket.AF_UNIX) as slow:
        slow.bind(str(tmp_path / "journal.jsonl.control" / "socket"))
        slow.listen()
        heard: list[bytes] = []

        def hang_up(*, at_once: bool) -> None:
            client, _ = slow.accept()
            with client:
                client.sendall(b'{"run":"p-1","pid":1}\n')
                heard.append(client.recv(4096))
                if not at_once:
                    client.recv(4096)  # until the other end has given up

        for at_once in (False, True):
            thread = threading.Thread(target=hang_up, kwargs={"at_once": at_once})
            thread.start()
            with pytest.raises(FleetError, match="may have been carried out") as caught:
                ask(journal, ORDER)
            thread.join()
            assert "fleet status" in (caught.value.hint or "")
        assert [msgspec.json.decode(line, type=Order) for line in heard] == [ORDER, ORDER]


@pytest.mark.parametrize(
    "rubbish", [b"hold it!\n", b'{"verb":"wipe","reason":"","by":""}\n', b"\xff\0\n", b"x" * (3 << 20)]
)
def test_rubbish_is_answered_and_dropped(served: Served, rubbish: bytes) -> None:
    with served.connected() as client:
        assert b'"run":"p-1"' in greeted(client)
        with contextlib.suppress(OSError):  # what is too long is not read to its end
            client.sendall(rubbish)
        with contextlib.suppress(ConnectionResetError):
            assert b"this is no order" in rest(client)
    assert served.orders == []
    assert ask(served.journal, ORDER) == "held; nobody is in flight"


def test_half_an_order_is_none(served: Served) -> None:
    """A client that dies while it writes has ordered nothing, whatever the half would say."""
    with served.connected() as client:
        greeted(client)
        client.sendall(msgspec.json.encode(ORDER))
        client.shutdown(socket.SHUT_WR)
        assert rest(client) == b""
    assert served.orders == []


def test_who_connects_and_says_nothing_blocks_nobody(served: Served) -> None:
    """More of them than are kept: the oldest goes."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(served.connected()) for _ in range(control._CLIENTS + 4)]
        for client in silent:
            greeted(client)
        assert ask(served.journal, ORDER) == "held; nobody is in flight"
        assert rest(silent[0]) == b"null\n"


def test_a_silent_client_is_closed_in_the_end(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ORDER_S", 0.1)
    with served.connected() as client:
        greeted(client)
        assert rest(client) == b""


def test_the_end_of_a_run_is_said_to_whoever_was_greeted(tmp_path: Path) -> None:
    """Then the order may be given again: nothing was done."""
    served = Served(tmp_path / "journal.jsonl")
    with served.connected() as client:
        greeted(client)
        served.stop()
        with contextlib.suppress(OSError):
            client.sendall(msgspec.json.encode(ORDER) + b"\n")
        assert rest(client) == b"null\n"
    assert served.orders == []


def test_another_user_is_not_heard(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the modes say: the kernel tells who is at the other end."""
    monkeypatch.setattr(control, "_peer", lambda _: os.geteuid() + 1)
    with served.connected() as client:
        assert rest(client) == b""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert ask(served.journal, ORDER) is None, "nor is another user's process told anything"
    monkeypatch.undo()
    assert served.orders == []


def test_a_folder_that_is_not_ours_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that somebody has put there in wait: no orders then, and the run goes on."""
    journal = tmp_path / "journal.jsonl"
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(JournalError, match="somebody else's"):
        asyncio.run(Control(journal, "p-1", lambda _: "").open())
