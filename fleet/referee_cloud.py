"""An independent judge of a run by what the cloud has on record: who was wiped by whom, what is there now.

Like `fleet.referee` it shares no code with what it judges, and reads the journal by itself. The journal's own
soundness is the referee's matter; here it is believed, and compared with evidence that is not ours.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Fact = Mapping[str, Any]

_SPAN = timedelta(minutes=10)
"""So long after a run's last word a request without an answer may still be noted by the cloud."""


@dataclass(frozen=True, slots=True)
class Record:
    """A reinstall on the cloud's record: who was asked to be wiped, when, by whom, with what job."""

    server: str
    at: datetime
    by: str
    call: str
    accepted: bool
    job: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the cloud says.

    Attributes:
        source: Of the record, in words; None: there is none.
        missing: Why there is none.
        records: Of reinstalls, of this run's servers and of others.
        back_to: Nothing older is on record.
        late: What is younger than this may not be on record yet.
        disks: System disks now, by server; None for one that has none to be seen. Who is not in it is gone.
    """

    source: str | None
    missing: str
    records: Sequence[Record]
    back_to: datetime | None
    late: datetime
    disks: Mapping[str, str | None]


@dataclass(slots=True)
class Comparison:
    """What came of it.

    Attributes:
        odd: What the run does not explain, in words. Empty is good.
        notes: What is worth knowing and breaks nothing.
        servers: Of the run.
        wipes: Of the run's servers in its time, by the cloud's own count.
        unexplained: Of these, those that the run did not ask for.
    """

    odd: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    servers: int = 0
    wipes: int = 0
    unexplained: int = 0


@dataclass(slots=True)
class _Request:
    """A wipe that the journal has announced, and what it says became of it."""

    at: datetime
    said: str = "unknown"
    job: str | None = None


@dataclass(slots=True)
class _Server:
    """One server, as the journal has it."""

    member: Fact
    requests: list[_Request] = field(default_factory=list)
    state: str = "waiting"
    new_disk: str | None = None

    @property
    def name(self) -> str:
        return str(self.member.get("name") or self.member["id"])


_SAID = {
    "ReinstallAccepted": "accepted",
    "ReinstallRefused": "refused",
    "ReinstallNotTaken": "not taken",
}
_STATES = {
    "Verified": "verified",
    "Failed": "failed",
    "Skipped": "skipped",
    "WentBad": "verified",  # it was, with the disk that it has
    "PutBack": "waiting",
    "Retried": "waiting",
    "Admitted": "in flight",
}


def compare(journal: bytes, evidence: Evidence) -> Comparison:
    """Hold a run's journal against what the cloud says.

    Args:
        journal: Its whole lines; one that is torn is left out.
        evidence: Of the cloud.
    """
    servers: dict[str, _Server] = {}
    began = ended = datetime.max.replace(tzinfo=UTC)
    for number, fact in enumerate(_facts(journal)):
        ended = datetime.fromisoformat(fact["at"])
        if number == 0:
            began = ended
            servers = {member["id"]: _Server(member) for member in fact.get("members") or ()}
        elif fact.get("server") in servers:
            _take(servers[fact["server"]], fact, ended)
    found = Comparison(servers=len(servers))
    if evidence.source is not None:
        _compare_wipes(found, servers, evidence, began, ended)
    since = {each.server for each in evidence.records if each.accepted and each.at > ended}
    _compare_disks(found, servers, evidence, since)
    return found


def _facts(journal: bytes) -> Iterator[Fact]:
    whole, _, _ = journal.rpartition(b"\n")
    for line in whole.split(b"\n"):
        yield json.loads(line)


def _take(server: _Server, fact: Fact, at: datetime) -> None:
    event = fact["event"]
    if event == "ReinstallRequested":
        server.requests.append(_Request(at))
    elif event in _SAID and server.requests:
        server.requests[-1].said = _SAID[event]
        server.requests[-1].job = fact.get("job")
    elif event == "ChecksPassed":
        server.new_disk = fact.get("system_disk")
    elif event in _STATES:
        server.state = _STATES[event]


def _compare_wipes(
    found: Comparison, servers: Mapping[str, _Server], evidence: Evidence, began: datetime, ended: datetime
) -> None:
    of_each: dict[str, list[Record]] = {}
    others: list[Record] = []
    for record in sorted(evidence.records, key=lambda each: each.at):
        if record.accepted:
            (of_each.setdefault(record.server, []) if record.server in servers else others).append(record)
    for server_id, server in servers.items():
        _compare_server(found, server, of_each.get(server_id, []), evidence, began, ended)
    among = [each for each in others if began <= each.at <= ended]
    found.notes += [
        f"meanwhile {each.name or each.server}, which is not of this run, was wiped by {_who(each)}"
        for each in among
    ]


def _compare_server(
    found: Comparison,
    server: _Server,
    records: Sequence[Record],
    evidence: Evidence,
    began: datetime,
    ended: datetime,
) -> None:
    by_job = {request.job: request for request in server.requests if request.job}
    left = [each for each in records if each.job is None or each.job not in by_job]
    met = {id(by_job[each.job]) for each in records if each.job in by_job}
    found.wipes += len(records) - len(left)
    # What has no job in the journal was concluded from what the server showed, or never concluded.
    open_ones = [request for request in server.requests if id(request) not in met and request.job is None]
    open_ones.sort(key=lambda request: request.said != "accepted")
    until = ended + _SPAN if open_ones else ended
    for record in left:
        if not began <= record.at <= until:
            when = "before this run" if record.at < began else "since then"
            found.notes.append(f"{when} {server.name} was wiped by {_who(record)}")
            continue
        found.wipes += 1
        request = next((each for each in open_ones if each.said in {"accepted", "unknown"}), None)
        if request is not None:
            open_ones.remove(request)
            met.add(id(request))
            continue
        found.unexplained += 1
        denied = next((each.said for each in open_ones), None)
        why = f"the journal concluded: {denied}" if denied else "this run did not ask for it"
        found.odd.append(f"{server.name} was wiped by {_who(record)}, and {why}")
    for request in server.requests:
        if request.said != "accepted" or id(request) in met:
            continue
        when = f"{request.at:%Y-%m-%d %H:%M:%S} UTC"
        if evidence.back_to is not None and request.at < evidence.back_to:
            found.notes.append(
                f"{server.name}: its reinstall of {when} is older than {evidence.source} goes back"
            )
        elif request.at > evidence.late:
            found.notes.append(f"{server.name}: its reinstall of {when} may not be on record yet")
        else:
            found.odd.append(f"{server.name}: its reinstall of {when} is not in {evidence.source}")


def _compare_disks(
    found: Comparison, servers: Mapping[str, _Server], evidence: Evidence, since: Collection[str]
) -> None:
    """Compare the disks; of who was wiped *since*, by the cloud's own record, another one is no wonder."""
    for server_id, server in servers.items():
        if server_id not in evidence.disks:
            found.odd.append(f"{server.name} does not exist any more")
            continue
        if server_id in since:
            continue  # and noted so
        disk = evidence.disks[server_id]
        touched = any(request.said in {"accepted", "unknown"} for request in server.requests)
        if server.state == "verified" and disk != server.new_disk:
            was = f"the one that was verified ({server.new_disk})"
            found.odd.append(f"{server.name} has another system disk ({disk}) than {was}")
        elif server.state in {"waiting", "skipped", "failed"} and not touched:
            planned = server.member.get("system_disk")
            if disk != planned:
                was = f"when the run was opened ({planned}), and this run did not reinstall it"
                found.odd.append(f"{server.name} has another system disk ({disk}) than {was}")


def _who(record: Record) -> str:
    return f"{record.by or 'nobody knows whom'} at {record.at:%Y-%m-%d %H:%M:%S} UTC ({record.call})"
