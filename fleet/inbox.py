"""Orders for a run that is being worked on: files in its folder, which its process looks for every second.

Files and not a socket, because a state folder may be shared: whoever can read the journal from another
machine can hold the run from there. An order is whole before it has its name (written aside, then renamed),
is answered in a file beside it, and can be taken back as long as nobody has taken it.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from fleet.errors import FleetError
from fleet.steering import Order

POLL_S = 1.0
"""How often a process looks: a hold takes effect within this and a tick."""

ANSWER_S = 10.0
"""How long a command waits for its answer: ten looks. A process that is stopped does not answer."""

LOOK_S = 0.1
"""How often a command looks for its answer."""

READ_S = 1.0
"""How long a process that ends waits for its answers to be read."""

_ORDER, _ANSWER = ".order", ".answer"


def _folder(journal: Path) -> Path:
    return journal.parent / f"{journal.name}.inbox"


class Inbox:
    """The receiving end."""

    def __init__(self, journal: Path) -> None:
        self._folder = _folder(journal)
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def take(self) -> Iterator[tuple[Order, Callable[[str], None]]]:
        """Yield the orders that have come, the oldest first, each with the function that answers it.

        What cannot be read as an order is answered as such, and not yielded.
        """
        try:
            found = sorted((path for path in self._folder.iterdir() if path.suffix == _ORDER), key=_age)
        except OSError:
            return  # whoever removed the folder cannot be heard; the run goes on
        for path in found:
            taken = path.with_suffix(".taken")
            try:
                path.rename(taken)  # from now on it cannot be taken back
                content = taken.read_bytes()
                taken.unlink()
            except OSError:
                continue

            def answer(words: str, path: Path = path) -> None:
                _write(path.with_suffix(_ANSWER), words.encode())

            try:
                yield msgspec.json.decode(content, type=Order), answer
            except msgspec.MsgspecError as error:
                answer(f"this is no order: {error}")

    def close(self) -> None:
        """Remove the folder, unless an order has come that nobody took.

        The run may have ended because of an order: whoever gave it gets the time to read the answer.
        """
        try:
            for _ in range(round(READ_S / LOOK_S)):
                if not any(path.suffix == _ANSWER for path in self._folder.iterdir()):
                    break
                time.sleep(LOOK_S)
            for path in self._folder.iterdir():
                if path.suffix == _ANSWER:
                    path.unlink()
            self._folder.rmdir()
        except OSError:
            pass  # an answer that is being read, or an order: the next life takes it


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except OSError:  # taken back meanwhile
        return 0, path.name


def ask(journal: Path, order: Order) -> str | None:
    """Leave *order* for the process that works on a run; return its answer, or None: it was taken back.

    Raises:
        FleetError: It was taken, and no answer came: the journal tells what became of it.
    """
    folder = _folder(journal)
    if not folder.is_dir():
        return None
    path = folder / f"{uuid.uuid4().hex}{_ORDER}"
    _write(path, msgspec.json.encode(order))
    answer = path.with_suffix(_ANSWER)
    for _ in range(round(ANSWER_S / LOOK_S)):
        time.sleep(LOOK_S)
        if answer.exists():
            words = answer.read_text()
            answer.unlink(missing_ok=True)
            return words
    try:
        path.unlink()
    except FileNotFoundError:
        raise FleetError(
            "the order was taken, and no answer came", hint="`fleet status` shows whether it was carried out"
        ) from None
    return None


def _write(path: Path, content: bytes) -> None:
    """Write a file that is whole as soon as it has its name, readable by its owner only."""
    aside = path.with_suffix(".part")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    aside.rename(path)
