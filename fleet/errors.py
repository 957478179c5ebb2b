"""What can go wrong, sorted by what the caller may do next.

::

    FleetError                      exit  says
    ├── PlanError                   2     the plan, the arguments or the pre-flight: nothing was touched
    ├── LockedError                 7     another process works on this run or on these servers
    ├── JournalError                9     the journal cannot be read or written: nothing more is changed
    ├── RunNotFoundError            2     no run by that name
    └── CloudError
        ├── Unavailable                   not done; safe to repeat, later
        │   ├── NotSent                   the request never left this machine
        │   └── Throttled                 the cloud refused before processing (429, flow control)
        ├── Rejected                      not done; pointless to repeat as it is
        │   ├── NotFound                  the thing asked about does not exist, or not for us
        │   └── Busy                      the server's state forbids it now
        ├── OutcomeUnknown                may have been done: look before anything else
        └── CloudUnusable           8     credentials, permissions or endpoint: no call will work

A *message* says what happened and to what; a *hint* says what to do about it.
No message may ever contain a secret: see ``fleet.secrets``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self


class Exit(IntEnum):
    """Exit codes, stable, made for cron. Help, README and reference have their words from here.

    Attributes:
        meaning: What it says.
        remedy: What to do about it; empty: nothing.
    """

    meaning: str
    remedy: str

    OK = 0, "every server verified, or nothing to do", ""
    DEFECT = 1, "a defect of ours", "`fleet status` reads the journal; report it, and resume"
    USAGE = 2, "usage, plan or pre-flight: nothing was touched", "mend what the message names"
    FAILED = (
        3,
        "finished, some servers failed, or were left alone because somebody had changed them",
        "`fleet status` says why; mend it, then `fleet retry` and `fleet resume`",
    )
    HELD = (
        4,
        "held: more failed than the plan allows",
        "look, mend, then `fleet release`, `fleet retry` and `fleet resume`",
    )
    UNFINISHED = (
        5,
        "unfinished: drained, or the window is closed; a later run goes on",
        "give the same command again, or have cron do it",
    )
    APPROVAL = 6, "a wave waits for `fleet approve`", "look at the wave, `fleet approve`, `fleet resume`"
    LOCKED = 7, "another run holds the lock", "wait for it, or end it: `fleet drain`"
    CLOUD = 8, "the cloud or the credentials could not be used", "`fleet doctor` says what works"
    JOURNAL = (
        9,
        "the journal could not be read or written: nothing more was changed",
        "make room, or bring the disk back; then `fleet resume`",
    )
    INTERRUPTED = 130, "stopped at once by a second Ctrl-C", "`fleet resume`"
    TERMINATED = 143, "stopped at once by a second SIGTERM", "`fleet resume`"

    def __new__(cls, code: int, meaning: str, remedy: str) -> Self:
        """Make a code that carries its words."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        member.remedy = remedy
        return member


class FleetError(Exception):
    """Base of every error that is not a defect of ours.

    Attributes:
        message: What happened, to what.
        hint: What to do about it, or None.
    """

    exit_code: ClassVar[Exit] = Exit.DEFECT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a plan, with its place.

    Attributes:
        message: What was found, and what was expected.
        hint: What to write instead, or None.
        file: Path of the file as the user gave it, or None when it is about no file.
        line: Counted from 1, or None when it is about the file as a whole.
        column: Counted from 1, or None.
        path: Where in the plan, such as ``targets[0].select.name``; empty for the whole.
    """

    message: str
    hint: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    path: str = ""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        where = f"{self.path}: " if self.path else ""
        text = f"{place}: {where}{self.message}" if place else f"{where}{self.message}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class PlanError(FleetError):
    """The plan, the arguments or the pre-flight say no. Nothing was touched.

    Attributes:
        problems: Everything that is wrong, in the order of the file; at least one.
    """

    exit_code = Exit.USAGE

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class LockedError(FleetError):
    """Another process works on this run, or on one of its servers."""

    exit_code = Exit.LOCKED


class JournalError(FleetError):
    """The journal cannot be read, or can no longer be written."""

    exit_code = Exit.JOURNAL


class RunNotFoundError(FleetError):
    """No run, or more than one, answers to the name given."""

    exit_code = Exit.USAGE


class CloudError(FleetError):
    """The cloud did not do what was asked, or did not say so.

    Attributes:
        code: The cloud's own code (``Ecs.0100``), or None.
        status: HTTP status, or None when there was no answer.
        request_id: The cloud's id of the request, for its support; or None.
    """

    exit_code = Exit.CLOUD

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.status = status
        self.request_id = request_id


class Unavailable(CloudError):
    """Provably not done. Safe to repeat, later.

    Attributes:
        retry_after_s: Seconds that the cloud asked us to wait, or None.
    """

    retry_after_s: float | None = None


class NotSent(Unavailable):
    """The request never left this machine: no connection, or its send-by time had passed."""


class Throttled(Unavailable):
    """The cloud refused before it looked at the request: too many of them."""


class Rejected(CloudError):
    """Refused, nothing happened. The same request will be refused again.

    Attributes:
        everybody: The cause is no server's own (key pair gone, quota, permission):
            every server of the plan would meet it.
    """

    everybody: bool = False


class NotFound(Rejected):
    """The thing asked about does not exist, or is hidden from us."""


class Busy(Rejected):
    """Refused because of the state the server is in just now; may be accepted later.

    After a lost answer this is a hint that the first request was accepted.
    """


class OutcomeUnknown(CloudError):
    """The request was sent and no usable answer came back: it may have been done."""


class CloudUnusable(CloudError):
    """Credentials, permissions, endpoint or clock: no call will work until somebody mends it."""
