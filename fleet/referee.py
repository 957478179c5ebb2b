"""An independent judge of a run: its journal's bytes, and the cloud's own record if there is one.

Shares no code with what it judges: it has its own reader and its own idea of what may follow what, written
down from the promises (``docs/reliability.md``) and not from the engine. import-linter checks that it
stays so. It knows format 1 of the journal and ignores events and fields that it does not know.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from fleet.referee_limits import IN_FLIGHT, SETTLED, Fact, Limits, Server

__all__ = ["Fact", "Report", "judge"]

FORMAT = 1


@dataclass(slots=True)
class Report:
    """What was judged and what was found.

    Attributes:
        violations: Broken promises, in words, with the promise's number first. Empty is good.
        checked: How many times each promise was put to the test.
        lines: Of the journal.
        torn: Bytes behind its last whole line.
    """

    violations: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    torn: int = 0
    lives: int = 0
    finished: bool = False
    states: dict[str, str] = field(default_factory=dict)


_STEPS: dict[str, tuple[str, ...]] = {
    # what must have come right before in this server's way, of the steps that count
    "Stopped": ("admitted", "stopping", "again"),
    "ReinstallRequested": ("stopped",),
    "ReinstallAccepted": ("requested",),
    "ReinstallRefused": ("requested",),
    "ReinstallUnanswered": ("requested",),
    "ReinstallNotTaken": ("requested",),
    "JobVanished": ("accepted",),
    "ReinstallFailed": ("accepted",),
    "Reinstalled": ("accepted",),
    "StartRequested": ("reinstalled", "starting", "started", "returning"),
    "PutBack": ("returning",),
    "Started": ("reinstalled", "starting"),
    "ChecksPassed": ("started",),
    "Verified": ("checked",),
}


class _Referee:
    """Reads a journal line by line."""

    def __init__(self) -> None:
        self.report = Report()
        self.servers: dict[str, Server] = {}
        self.targets: dict[str, Fact] = {}
        self.claims = False
        self.limits = Limits(self.judge, self.servers)

    def judge(self, promise: str, good: bool, words: Callable[[], str]) -> None:  # noqa: FBT001 - the verdict
        """Count one test of a promise; note it when it is broken."""
        self.report.checked[promise] += 1
        if not good:
            self.report.violations.append(f"{promise} line {self.report.lines}: {words()}")

    # -- reading ------------------------------------------------------------------------------------

    def read(self, data: bytes) -> None:
        """Read the whole file."""
        whole, _, rest = data.rpartition(b"\n")
        self.report.torn = len(rest)
        crc = 0
        for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
            self.report.lines = number
            body, found, check = line.rpartition(b',"crc":"')
            crc = zlib.crc32(body, crc)
            good = bool(found) and check == b'%08x"}' % crc
            self.judge("P2", good, lambda: "the checksum is wrong")
            if not good:
                return
            try:
                fact = json.loads(line)
            except ValueError:
                self.judge("P2", False, lambda: "no JSON")  # noqa: FBT003 - the verdict
                return
            self.judge("P2", fact.get("seq") == number, lambda: "a gap in seq")
            if number == 1:
                self.open(fact)
            else:
                self.take(fact)

    def open(self, fact: Fact) -> None:
        """Take the first line."""
        known = fact.get("event") == "RunOpened" and fact.get("format") == FORMAT
        self.judge("P2", known, lambda: "not the opening of a run of a format that is known")
        self.report.lives = 1
        self.rules(fact.get("settings") or {})
        for member in fact.get("members") or ():
            self.judge("P14", member["id"] not in self.servers, lambda: "a server is listed twice")
            self.servers[member["id"]] = server = Server(member)
            self.limits.add(server)

    def rules(self, settings: Fact) -> None:
        """Take the plan that is in force from here on."""
        self.targets = {target["name"]: target for target in settings.get("targets") or ()}
        self.claims = bool(settings.get("claim"))
        self.limits.rules(settings)

    def take(self, fact: Fact) -> None:
        """Take one more line."""
        event = str(fact.get("event"))
        if (server_id := fact.get("server")) is not None:
            server = self.servers.get(server_id)
            self.judge("P14", server is not None, lambda: f"{event} of a server that is not in the run")
            if server is not None:
                self.limits.count(server, -1)
                self.limits.step(event, fact, server)
                self.step(event, fact, server)
                self.limits.count(server, 1)
            return
        self.limits.take(event, fact)
        match event:
            case "RunResumed":
                self.report.lives += 1
                self.report.finished = False
                if fact.get("settings"):
                    self.rules(fact["settings"])
            case "RunFinished":
                self.finish(fact)
            case _:
                pass

    # -- a server's way -----------------------------------------------------------------------------

    def step(self, event: str, fact: Fact, server: Server) -> None:  # noqa: C901, PLR0912, PLR0915 - a table
        """Take one server's fact."""
        if event in _STEPS:
            ok = server.state == IN_FLIGHT and server.step in _STEPS[event]
            self.judge("P8", ok, lambda: f"{event} of {server.name}, which is {server.state}/{server.step}")
        match event:
            case "Claimed":
                self.judge("P8", server.state == IN_FLIGHT, lambda: f"{server.name} claimed out of turn")
                server.claimed = self.report.lives
            case "Unclaimed":
                self.judge("P8", server.claimed > 0, lambda: f"{server.name} given back, and never claimed")
                server.claimed = 0
            case "Admitted":
                server.state, server.step = IN_FLIGHT, "admitted"
            case "StopRequested":
                self.judge("P8", server.state == IN_FLIGHT, lambda: f"{server.name} stopped out of turn")
                server.step = server.step if server.step in {"checked", "returning"} else "stopping"
            case "Stopped":
                server.step = "stopped"
            case "ReinstallRequested":
                self.announce(fact, server)
            case "ReinstallAccepted":
                server.accepted += 1
                server.accepted_in_go += 1
                server.step, server.open_request, server.may_ask = "accepted", False, False
                if fact.get("job"):
                    server.jobs.append(fact["job"])
            case "ReinstallRefused" | "ReinstallNotTaken":
                server.step, server.open_request = "again", False
            case "ReinstallFailed":
                server.failed_jobs += 1
                server.step, server.may_ask = "again", True
            case "Reinstalled":
                server.step = "reinstalled"
            case "StartRequested":
                server.step = "returning" if server.step == "returning" else "starting"
            case "GivingUp":
                wiped = server.accepted > 0 or server.open_request
                self.judge("P6", not wiped, lambda: f"{server.name} is put back after it was wiped")
                server.step = "returning"
            case "PutBack":
                server.state, server.step = "waiting", ""
            case "DebtOwed":
                self.judge("P19", server.accepted_in_go == 0, lambda: f"{server.name} drained after its wipe")
                self.judge("P19", fact.get("debt") not in server.owed, lambda: f"{server.name} drained twice")
                server.owed.add(fact.get("debt"))
            case "DebtPaid":
                known = fact.get("debt") == "start" or fact.get("debt") in server.owed
                self.judge("P19", known, lambda: f"{server.name}: what was never done is undone")
                server.owed.discard(fact.get("debt"))
                server.tried.discard(fact.get("debt"))
            case "UndoFailed":
                server.tried.add(fact.get("debt"))
            case "Started":
                server.step = "started"
            case "ChecksPassed":
                server.step, server.new_disk = "checked", fact.get("system_disk")
            case "Verified":
                self.verify(server)
            case "Failed" | "Skipped":
                self.give_up(event, fact, server)
            case "WentBad":
                self.judge("P8", server.state == "verified", lambda: f"{server.name} bad, never verified")
                server.state = "failed"
            case "Retried":
                legal = server.state == "failed" or (server.state == "skipped" and server.changed)
                self.judge("P8", legal, lambda: f"{server.name} retried, not failed")
                server.state, server.step = "waiting", ""
                server.retries += 1
                server.accepted_in_go = 0
                server.may_ask, server.forgiven = True, False
            case _:
                pass

    def announce(self, fact: Fact, server: Server) -> None:
        """A wipe is announced: may it be?"""
        name = server.name
        self.judge("P1", not server.open_request, lambda: f"{name} announced while in doubt")
        self.judge("P1", server.may_ask, lambda: f"{name} announced again after it was accepted")
        attempts = (self.targets[server.target].get("reinstall") or {}).get("attempts", 2)
        self.judge(
            "P1", server.accepted_in_go < attempts, lambda: f"{name} announced after {attempts} attempts"
        )
        # Another machine must be able to see it, by a claim of this very life.
        seen = not self.claims or server.claimed == self.report.lives
        self.judge("P18", seen, lambda: f"{name} announced, and this life has not claimed it")
        server.step, server.open_request = "requested", True
        server.requests += 1
        server.old_disk = fact.get("system_disk")

    def verify(self, server: Server) -> None:
        """A server counts as done: was it?"""
        name = server.name
        self.judge("P6", server.accepted_in_go > 0, lambda: f"{name} verified, and no reinstall accepted")
        changed = server.new_disk is not None and server.new_disk != server.old_disk
        self.judge("P6", changed, lambda: f"{name} verified with its old system disk")
        self.judge(
            "P19", server.owed <= server.tried, lambda: f"{name} verified, and nobody has undrained it"
        )
        server.state = "verified"

    def give_up(self, event: str, fact: Fact, server: Server) -> None:
        """A server failed, or was taken out."""
        legal = (IN_FLIGHT,) if event == "Failed" else ("waiting", "failed")
        server.changed = event == "Skipped" and bool(fact.get("changed"))
        if server.changed:
            # Left alone by the run itself: then it must have left it alone.
            legal = (IN_FLIGHT,)
            alone = server.accepted == 0 and not server.open_request
            self.judge("P6", alone, lambda: f"{server.name} skipped as changed after it was wiped")
            self.judge("P19", not server.owed, lambda: f"{server.name} skipped and left drained")
        self.judge("P8", server.state in legal, lambda: f"{event} of {server.name}, which is {server.state}")
        self.judge("P8", bool(fact.get("reason")), lambda: f"{event} of {server.name} without a reason")
        if event == "Failed" and fact.get("untouched"):
            # Who cannot be started gets no traffic.
            tried = server.owed <= server.tried or "start" in server.tried
            self.judge("P19", tried, lambda: f"{server.name} failed and is left drained")
        server.state, server.open_request = event.lower(), False

    def finish(self, fact: Fact) -> None:
        """The run says that it is finished."""
        self.report.finished = True
        states = Counter(server.state for server in self.servers.values())
        for state in SETTLED:
            said = fact.get(state)
            self.judge("P8", said == states[state], lambda: f"{states[state]} {state}, and it says {said}")  # noqa: B023 - called at once
        rest = len(self.servers) - sum(states[state] for state in SETTLED)
        self.judge("P8", rest == 0, lambda: f"finished with {rest} servers that are not settled")
        still = [server.name for server in self.servers.values() if server.open_request]
        self.judge("P16", not still, lambda: f"finished, and {still[0]} is still in doubt")

    # -- the cloud's record -------------------------------------------------------------------------

    def compare(self, record: Iterable[Fact]) -> None:
        """Hold the journal against the cloud's own record."""
        accepted: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        replaced: dict[str, list[str]] = {}
        jobs: dict[str, str] = {}
        for entry in record:
            if entry.get("entry") == "effect":
                if entry.get("effect") in {"disk-replaced", "disk-lost"}:
                    replaced.setdefault(entry["server"], []).append(entry.get("new") or "")
                continue
            for server in entry.get("servers") or ():
                self.judge("P14", server in self.servers, lambda: f"{entry['kind']} of {server}, not ours")  # noqa: B023 - called at once
            if entry.get("kind") != "reinstall" or not entry.get("servers"):
                continue
            server = entry["servers"][0]
            if entry.get("code") != "APIGW.0307":  # not even looked at: its repetition is the request
                asked[server] += 1
            if entry.get("accepted"):
                done = [disk for disk in replaced.get(server, ()) if disk]
                again = self.servers.get(server)
                excused = again is not None and (again.retries or again.failed_jobs)
                self.judge("P1", not done or bool(excused), partial("{} after its wipe".format, server))
                accepted[server] += 1
                jobs[entry.get("job") or ""] = server
        for server_id, server in self.servers.items():
            self._compare_one(server_id, server, accepted, asked, replaced.get(server_id, []), jobs)

    def _compare_one(
        self,
        server_id: str,
        server: Server,
        accepted: Counter[str],
        asked: Counter[str],
        disks: list[str],
        jobs: Mapping[str, str],
    ) -> None:
        name = server.name
        self.judge(
            "P16",
            asked[server_id] <= server.requests,
            lambda: f"{name}: {asked[server_id]} requests on record, {server.requests} announced",
        )
        self.judge(
            "P1",
            len(disks) <= 1 + server.failed_jobs + server.retries,
            lambda: (
                f"{name} was wiped {len(disks)} times, with {server.failed_jobs} failed jobs"
                f" and {server.retries} retries"
            ),
        )
        self.judge(
            "P16",
            all(jobs.get(job) == server_id for job in server.jobs),
            lambda: f"{name}: a job that the record does not know",
        )
        self.judge(
            "P5",
            server.accepted <= accepted[server_id],
            lambda: f"{name}: {server.accepted} accepted by the journal, {accepted[server_id]} on record",
        )
        if server.state == "verified":
            good = bool(disks) and disks[-1] == server.new_disk
            self.judge("P6", good, lambda: f"{name} verified, and the record has disks {disks}")


def judge(journal: bytes, record: Iterable[Fact] | None = None) -> Report:
    """Judge a run.

    Args:
        journal: The whole file; all lives of the run are in it.
        record: The cloud's own record, as ``fleet simulator --record`` writes it, decoded.
    """
    referee = _Referee()
    referee.read(journal)
    if record is not None:
        referee.compare(record)
    for server in referee.servers.values():
        settled = server.state in SETTLED
        referee.judge("P8", settled or not referee.report.finished, lambda: "not settled")
    referee.report.states = {name: server.state for name, server in referee.servers.items()}
    return referee.report
