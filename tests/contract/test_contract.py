"""What `fleet.cloud.api.Cloud` promises, held against every provider: reading, power, the call that wipes.

No test knows which cloud it runs on. Where clouds may differ the test says so and takes either.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from contract.lab import Lab

from fleet.cloud.api import KeepsTrail, Wipe
from fleet.core.doubt import Doubt, Verdict, differences
from fleet.core.events import Member, ReinstallRequested
from fleet.core.model import Call, JobStatus, Server, ServerId
from fleet.errors import Busy, NotFound, OutcomeUnknown, Rejected, Unavailable


def noted(before: Server) -> ReinstallRequested:
    """Return the announcement that a run would have written."""
    return ReinstallRequested(
        server=before.id,
        attempt=1,
        call=Call.REINSTALL_CLOUD_INIT,
        system_disk=before.system_disk,
        data_disks=before.data_disks,
        state=before.state(),
        updated=before.updated,
        settle_s=300.0,
    )


def member(before: Server) -> Member:
    return Member(
        id=before.id,
        name=before.name,
        target="t",
        wave=1,
        call=Call.REINSTALL_CLOUD_INIT,
        system_disk=before.system_disk,
        data_disks=before.data_disks,
        addresses=before.addresses,
        security_groups=before.security_groups,
        flavor=before.flavor,
        zone=before.zone,
        tags=before.tags,
    )


# -- reading ------------------------------------------------------------------------------------------------


async def test_it_says_who_we_are(lab: Lab) -> None:
    identity = await lab.cloud.whoami()
    assert identity.user_id
    assert identity.project_id
    assert identity.cloud


async def test_the_list_has_every_server_once(lab: Lab) -> None:
    listed = await lab.cloud.servers()
    ids = [server.id for server in listed]
    assert len(ids) == len(set(ids))
    assert set(lab.servers) <= set(ids)
    for server in listed:
        if server.id in lab.servers:
            assert server.name
            assert server.flavor
            assert server.system_disk


async def test_some_servers_are_read_without_the_others(lab: Lab) -> None:
    """One, two, several: whichever way is taken, it gives those that were asked for and no others."""
    for count in range(1, len(lab.servers) + 1):
        wanted = set(lab.servers[:count])
        assert {server.id for server in await lab.cloud.servers(only=wanted)} == wanted
    assert await lab.cloud.servers(only={ServerId(str(uuid4()))}) == []


async def test_a_look_shows_what_the_list_shows(lab: Lab) -> None:
    """Above all the installation: the plan is made from the list, the last look is one of its own."""
    await lab.until(lab.servers[0], lambda look: look.is_idle, "at rest")
    (listed,) = [server for server in await lab.cloud.servers() if server.id == lab.servers[0]]
    seen = await lab.cloud.server(lab.servers[0])
    for name in ("id", "name", "status", "system_disk", "data_disks", "image", "flavor", "zone", "addresses",
                 "tags", "security_groups", "locked", "vpcs"):  # fmt: skip
        assert getattr(seen, name) == getattr(listed, name), name


async def test_what_does_not_exist_is_not_found(lab: Lab) -> None:
    nobody = ServerId(str(uuid4()))
    with pytest.raises(NotFound):
        await lab.cloud.server(nobody)
    with pytest.raises(NotFound):
        await lab.cloud.image(str(uuid4()))
    with pytest.raises(NotFound):
        await lab.cloud.key_pair("no-such-key-pair")
    assert isinstance(await lab.refused(nobody), NotFound)


async def test_image_and_key_pair_are_found(lab: Lab) -> None:
    image = await lab.cloud.image(lab.image)
    assert (image.id, image.fit) == (lab.image, "")
    pair = await lab.cloud.key_pair(lab.key_pair)
    assert pair.name == lab.key_pair


# -- power --------------------------------------------------------------------------------------------------


async def test_a_stop_and_a_start_change_the_power_and_nothing_else(lab: Lab) -> None:
    """The installation is the same one before, while and after: nothing but a reinstall changes it."""
    before = await lab.on(lab.servers[0])
    off = await lab.off(lab.servers[0])
    assert off.system_disk == before.system_disk
    after = await lab.on(lab.servers[0])
    assert after.system_disk == before.system_disk
    assert differences(member(before), None, after) == []


async def test_several_are_stopped_in_one_call(lab: Lab) -> None:
    pair = list(lab.servers[:2])
    for server in pair:
        await lab.on(server)
    await lab.cloud.stop(pair, force=False)
    for server in pair:
        await lab.until(server, lambda look: look.is_off, "off")
    await lab.cloud.start(pair)
    for server in pair:
        await lab.until(server, lambda look: look.is_on, "on")


async def test_stopping_what_is_off_is_refused_or_does_nothing(lab: Lab) -> None:
    """It is asked again when nothing seems to come of a stop, so it must be harmless."""
    await lab.off(lab.servers[0])
    for force in (False, True):
        with contextlib.suppress(Rejected):
            await lab.cloud.stop([lab.servers[0]], force=force)
        assert (await lab.until(lab.servers[0], lambda look: look.is_off, "still off")).is_off


# -- the call that wipes ------------------------------------------------------------------------------------


async def test_a_reinstall_is_followed_by_its_job_to_the_end(lab: Lab) -> None:
    """Accepted with a job; in the end another installation, and everything else as before."""
    server = lab.servers[0]
    before = await lab.off(server)
    count = await lab.judge.reinstalls(server)
    accepted = await lab.reinstall(server)
    assert (await lab.cloud.job(accepted.job)).id == accepted.job
    job = await lab.over(accepted.job)
    assert job.status is JobStatus.SUCCESS, job.reason
    after = await lab.until(server, lambda look: look.is_idle, "at rest")
    assert after.status != "ERROR"
    assert after.system_disk not in {None, before.system_disk}
    assert differences(member(before), noted(before), after) == []
    assert await lab.judge.reinstalls(server) == count + 1


async def test_a_second_reinstall_is_another_installation(lab: Lab) -> None:
    server = lab.servers[1]
    seen = {(await lab.off(server)).system_disk}
    for _ in range(2):
        assert (await lab.over((await lab.reinstall(server)).job)).status is JobStatus.SUCCESS
        seen.add((await lab.off(server)).system_disk)
    assert len(seen) == 3


async def test_no_look_is_idle_with_the_new_installation_before_it_is_over(lab: Lab) -> None:
    """Clouds pass through false idle states. A look may show one; three in a row never do."""
    server = lab.servers[2]
    before = await lab.off(server)
    accepted = await lab.reinstall(server)
    seen = await lab.until(
        server, lambda look: look.is_idle and look.system_disk not in {None, before.system_disk}, "new"
    )
    assert seen.system_disk
    assert (await lab.over(accepted.job)).status is JobStatus.SUCCESS


async def test_another_image_is_installed(lab: Lab) -> None:
    server = lab.servers[0]
    await lab.off(server)
    accepted = await lab.reinstall(server, call=Call.CHANGE_CLOUD_INIT, image=lab.image)
    assert (await lab.over(accepted.job)).status is JobStatus.SUCCESS
    assert (await lab.cloud.server(server)).image == lab.image


async def test_a_refused_reinstall_leaves_everything_as_it_was(lab: Lab) -> None:
    """An unknown key pair is every server's trouble; nothing happened to this one."""
    server = lab.servers[0]
    before = await lab.off(server)
    count = await lab.judge.reinstalls(server)
    error = await lab.refused(server, key_pair="no-such-key-pair")
    assert isinstance(error, Rejected)
    assert error.everybody
    after = await lab.until(server, lambda look: look.is_off, "still off")
    assert after.system_disk == before.system_disk
    assert await lab.judge.reinstalls(server) == count


async def test_a_second_call_while_the_first_is_at_work_is_not_taken(lab: Lab) -> None:
    """Busy, or unknown where the cloud cannot tell a repeat from a second one; never accepted."""
    server = lab.servers[1]
    await lab.off(server)
    count = await lab.judge.reinstalls(server)
    accepted = await lab.reinstall(server)
    assert isinstance(await lab.refused(server), Busy | OutcomeUnknown)
    assert (await lab.over(accepted.job)).status is JobStatus.SUCCESS
    assert await lab.judge.reinstalls(server) == count + 1


async def test_an_answer_that_is_lost_is_an_unknown_outcome_and_looking_tells(lab: Lab) -> None:
    """The judgement that a run makes from the looks: it was taken. Nobody asks again."""
    server = lab.servers[2]
    before = await lab.off(server)
    count = await lab.judge.reinstalls(server)
    lab.wire.lose = True
    assert isinstance(await lab.refused(server), OutcomeUnknown)
    doubt = Doubt(noted(before), limit_s=600.0)
    verdicts = set()

    def tell(look: Server) -> bool:
        verdicts.add(doubt.look(look, watched_s=1.0).verdict)
        return Verdict.TAKEN in verdicts

    await lab.until(server, tell, "taken")
    assert verdicts <= {Verdict.KEEP_LOOKING, Verdict.TAKEN}
    after = await lab.until(
        server, lambda look: look.is_idle and look.system_disk not in {None, before.system_disk}, "new"
    )
    assert after.status != "ERROR"
    assert await lab.judge.reinstalls(server) == count + 1
    assert lab.wire.wipes == 1


async def test_what_is_too_old_is_not_sent(lab: Lab) -> None:
    """A process that was suspended must not wake up and wipe."""
    server = lab.servers[0]
    await lab.off(server)
    count = await lab.judge.reinstalls(server)
    with pytest.raises(Unavailable):
        await lab.cloud.reinstall(lab.order(server), send_by=lab.boottime() - 1.0, timeout_s=30.0)
    assert lab.wire.wipes == 0
    assert await lab.judge.reinstalls(server) == count


async def test_a_standing_server_is_not_taken(lab: Lab) -> None:
    """The other half of the judgement: looks that show the same installation for long are no reinstall."""
    before = await lab.off(lab.servers[0])
    doubt = Doubt(noted(before), limit_s=600.0)
    for watched in (1.0, 100.0, 200.0, 299.0):
        assert (
            doubt.look(await lab.cloud.server(before.id), watched_s=watched).verdict is Verdict.KEEP_LOOKING
        )
    assert doubt.look(await lab.cloud.server(before.id), watched_s=301.0).verdict is Verdict.NOT_TAKEN


async def test_requests_are_counted_and_secrets_stay_inside(lab: Lab) -> None:
    server = lab.servers[0]
    before = sum(lab.cloud.calls().values())
    await lab.cloud.server(server)
    assert sum(lab.cloud.calls().values()) > before
    order = lab.order(server, key_pair="no-such-key-pair", user_data=b"the-planted-secret")
    assert "the-planted-secret" not in repr(order)
    error = await lab.refused(server, key_pair="no-such-key-pair", user_data=b"the-planted-secret")
    assert "the-planted-secret" not in str(error)


async def test_the_cloud_s_own_record_has_every_wipe_with_who_and_when(lab: Lab) -> None:
    """Also one whose answer was lost. It may come late; nothing that was not asked for is in it."""
    server = lab.servers[1]
    began = datetime.now(UTC) - timedelta(minutes=1)  # clocks differ
    if not isinstance(lab.cloud, KeepsTrail):
        pytest.skip("this provider has no such record")
    await lab.off(server)
    before = {wipe.job for wipe in (await lab.cloud.trail([server], began)).wipes}
    lab.wire.lose = True
    with pytest.raises(OutcomeUnknown):
        await lab.reinstall(server)
    lost = await lab.until(server, lambda look: look.is_idle, "at rest")
    assert lost.status != "ERROR"
    await lab.off(server)
    accepted = await lab.reinstall(server)
    await lab.over(accepted.job)
    fresh: list[Wipe] = []
    async with asyncio.timeout(lab.patience_s):
        while len(fresh) < 2:
            trail = await lab.cloud.trail([server], began)
            fresh = [wipe for wipe in trail.wipes if wipe.server == server and wipe.job not in before]
            await asyncio.sleep(lab.pause_s)
    assert len(fresh) == 2
    assert accepted.job in {wipe.job for wipe in fresh}
    assert all(wipe.accepted and wipe.by and wipe.at >= began for wipe in fresh)
    assert await lab.cloud.trail(lab.servers, datetime.now(UTC) + timedelta(minutes=4)) == replace(
        trail, wipes=()
    )
