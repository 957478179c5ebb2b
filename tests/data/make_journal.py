"""Write the kept journal of the current format: ``.venv/bin/python tests/data/make_journal.py > FILE``.

For a *new* format only. The file of a released format is never written anew: that users' files of that
format are still read is just what it is kept for.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from fleet.core import events as ev
from fleet.core.model import Call, JobId, ServerId
from fleet.core.settings import (
    CloudSettings,
    CommandCheck,
    HttpCheck,
    Reinstall,
    Rollout,
    SecretRef,
    Select,
    Settings,
    Share,
    Stop,
    Target,
    TcpCheck,
    UserData,
    Verify,
)
from fleet.journal import encode_line

WEB = Target(
    name="web",
    select=Select(
        ids=("w1", "w2", "w3", "w4", "w5", "w6", "w7"),
        name=("web-*",),
        name_regex=("web-[0-9]+",),
        tags={"role": ("web", "www"), "managed": ()},
        zone=("eu-de-01",),
        status=("ACTIVE", "SHUTOFF"),
        flavor=("s3.large.2",),
        image=("img-1",),
        vpc=("vpc-1",),
        enterprise_project=("0",),
        ip=("10.0.0.0/8",),
    ),
    exclude=Select(tags={"reinstall": ("never",)}),
    expect_min=1,
    expect_max=9,
    rollout=Rollout(
        waves=(1, Share(percent=12.5)),
        concurrency=3,
        hold_after=Share(percent=30.0),
        order=("availability_zone", "tag:rack", "name"),
    ),
    stop=Stop(soft_timeout_s=120.0, then="fail"),
    reinstall=Reinstall(
        key_pair="KeyPair-350b",
        user_id="7e25b1da389f4697a79df3a0e5bd494e",
        user_data=UserData(kind="template", sha256="ab" * 32, size=512, path="/plans/web.yaml.j2"),
        byol=True,
        mode="with-stop-server",
        cloud_init=True,
        image="img-2",
        timeout_s=1800.0,
        attempts=3,
        settle_s=240.0,
    ),
    verify=Verify(
        timeout_s=600.0,
        checks=(
            TcpCheck(port=22),
            HttpCheck(url="http://{server.private_ip}/", status=204),
            CommandCheck(argv=("/checks/joined", "{server.name}"), timeout_s=30.0),
        ),
        stable_for_s=60.0,
    ),
    leave="running",
)
DB = Target(
    name="db",
    select=Select(name=("db-*",)),
    rollout=Rollout(waves=(2,), hold_after=1),
    reinstall=Reinstall(admin_password=SecretRef(command=("vault", "read", "db"))),
)
PLAN = Settings(
    plan="kept",
    digest="cd" * 32,
    folder="/plans",
    cloud=CloudSettings(
        provider="ecs",
        profile="otc-prod",
        region="eu-de",
        endpoints={"ecs": "https://ecs.example.com"},
        requests_per_second=20.0,
    ),
    targets=(WEB, DB),
    protect=Select(ids=("never",), tags={"tier": ("control",)}),
)


def _member(name: str, target: str, wave: int, call: Call) -> ev.Member:
    number = name[-1]
    return ev.Member(
        id=ServerId(name),
        name=f"{target}-{number}",
        target=target,
        wave=wave,
        call=call,
        image="img-2",
        status="ACTIVE",
        system_disk=f"disk-{name}",
        data_disks=(f"data-{name}",),
        addresses=(f"10.0.0.{number}",),
        security_groups=("sg-1",),
        flavor="s3.large.2",
        zone="eu-de-01",
        tags={"role": target},
    )


MEMBERS = (
    _member("w1", "web", 1, Call.CHANGE_CLOUD_INIT),
    *(_member(f"w{n}", "web", 2, Call.CHANGE_PLAIN) for n in (2, 3, 4)),
    *(_member(f"w{n}", "web", 3, Call.REINSTALL_CLOUD_INIT) for n in (5, 6, 7)),
    *(_member(f"d{n}", "db", 1, Call.REINSTALL_PLAIN) for n in (1, 2)),
)


def _ask(server: str, attempt: int = 1) -> ev.Event:
    return ev.ReinstallRequested(
        server=ServerId(server),
        attempt=attempt,
        call=Call.CHANGE_CLOUD_INIT,
        system_disk=f"disk-{server}",
        data_disks=(f"data-{server}",),
        state="SHUTOFF",
        updated="2026-12-05T19:00:00Z",
        settle_s=240.0,
    )


def _story() -> list[ev.Event]:
    w1, w2, w3, w4, w5, w6, w7, d1 = (ServerId(n) for n in ("w1", "w2", "w3", "w4", "w5", "w6", "w7", "d1"))
    edited = Settings(
        **{name: getattr(PLAN, name) for name in PLAN.__struct_fields__} | {"digest": "ef" * 32}
    )
    return [
        ev.RunOpened(
            format=ev.FORMAT,
            run="kept-20261205T200000Z-0000",
            fleet="0.1.0",
            settings=PLAN,
            members=MEMBERS,
            cloud="https://iam.example.com project eu-de",
            project="0123456789abcdef0123456789abcdef",
            user="deploy",
            plan_path="/plans/kept.yaml",
            host="bastion",
            pid=4711,
            limit=("web-*", "!web-9"),
        ),
        ev.Skipped(server=w7, reason="unfit: it is locked"),
        # w1: all the way, with everything that can go wrong and still ends well.
        ev.WaveStarted(target="web", wave=1, of=3, servers=1),
        ev.Admitted(server=w1),
        ev.StopRequested(server=w1),
        ev.StopRequested(server=w1, force=True),
        ev.Stopped(server=w1, state="SHUTOFF"),
        _ask("w1"),
        ev.ReinstallRefused(server=w1, reason="flow control", code="APIGW.0308", request_id="req-1"),
        ev.Stopped(server=w1, state="SHUTOFF"),
        _ask("w1"),
        ev.ReinstallUnanswered(server=w1, reason="the connection was lost"),
        ev.ReinstallNotTaken(server=w1, evidence="watched for 240 s: still SHUTOFF"),
        ev.Stopped(server=w1, state="SHUTOFF"),
        _ask("w1"),
        ev.ReinstallAccepted(server=w1, job=JobId("job-1"), request_id="req-2"),
        ev.ReinstallFailed(server=w1, reason="no valid host", code="Ecs.0605"),
        ev.Stopped(server=w1, state="ERROR"),
        _ask("w1", 2),
        ev.ReinstallAccepted(server=w1, job=JobId("job-2"), request_id="req-3"),
        ev.JobVanished(server=w1, job=JobId("job-2")),
        ev.Reinstalled(server=w1, evidence="system disk new-w1 instead of disk-w1"),
        ev.StartRequested(server=w1),
        ev.StartRequested(server=w1),
        ev.Started(server=w1),
        ev.ChecksPassed(server=w1, system_disk="new-w1"),
        ev.Verified(server=w1),
        # w2: was off, and is turned off again. w3: fails and is held for, released and retried.
        ev.WaveStarted(target="web", wave=2, of=3, servers=3),
        ev.Admitted(server=w2),
        ev.Admitted(server=w3),
        ev.Admitted(server=w4),
        ev.Stopped(server=w2, state="SHUTOFF", was_off=True),
        _ask("w2"),
        ev.ReinstallAccepted(server=w2, evidence="the server is REBUILD (rebuilding)"),
        ev.Reinstalled(server=w2, evidence="system disk new-w2 instead of disk-w2"),
        ev.Started(server=w2),
        ev.ChecksPassed(server=w2, system_disk="new-w2"),
        ev.StopRequested(server=w2),
        ev.Verified(server=w2),
        ev.Failed(
            server=w3,
            reason="refused: the key pair is gone",
            hint="make it again",
            code="Ecs.0314",
            request_id="req-4",
            everybody=True,
            untouched=True,
        ),
        ev.Stopped(server=w4, state="ACTIVE", running=True),
        ev.RunHeld(reason="every server would meet this: refused: the key pair is gone"),
        ev.RunDrained(reason="SIGTERM"),
        ev.RunResumed(
            host="bastion-2", pid=12, settings=edited, changes=("cloud.requests_per_second: 10.0 → 20.0",)
        ),
        ev.RunReleased(reason="made it again, CHG-1", by="alice"),
        ev.Retried(server=w3, reason="CHG-1 (alice)"),
        ev.Admitted(server=w3),
        ev.Failed(server=w3, reason="it is locked"),
        ev.Skipped(server=w3, reason="decommissioned (alice)"),
        _ask("w4"),
        ev.ReinstallAccepted(server=w4, job=JobId("job-4")),
        ev.Reinstalled(server=w4, evidence="job job-4 SUCCESS"),
        ev.Started(server=w4),
        ev.ChecksPassed(server=w4, system_disk="new-w4"),
        ev.Verified(server=w4),
        # A run that was finished once (by a fleet that thought so), and was given another try.
        ev.RunFinished(verified=3, failed=0, skipped=2),
        ev.RunResumed(host="bastion", pid=13),
        ev.Admitted(server=w5),
        ev.Failed(server=w5, reason="not stopped after 2 min", untouched=True),
        ev.Admitted(server=w6),
        ev.Stopped(server=w6, state="SHUTOFF"),
        _ask("w6"),
        ev.Admitted(server=d1),
        ev.StopRequested(server=d1),
    ]


def main() -> None:
    """Write it to standard output."""
    at, crc = datetime(2026, 12, 5, 20, 0, 0, 120_000, tzinfo=UTC), 0
    for seq, event in enumerate(_story(), start=1):
        line, crc = encode_line(seq, at, event, crc)
        sys.stdout.buffer.write(line)
        at += timedelta(seconds=7, milliseconds=331)


if __name__ == "__main__":
    main()
