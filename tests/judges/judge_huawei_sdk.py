"""The vendor's own client judges the built-in cloud: it signs, lists, stops, reinstalls and reads errors.

    python tests/judges/judge_huawei_sdk.py URL

Needs ``huaweicloudsdkecs`` and nothing of ours. The simulator is one of `run.py`'s: the default fleet, a high
speed. Exits 1 at the first mismatch: the SDK itself requires nothing of an answer, so every field is asserted
here, and whatever it had to bend into shape (`TypeConversionWarning`) is a mismatch as well.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcore.warning.warning import TypeConversionWarning
from huaweicloudsdkecs.v2 import (
    BatchAddServerTag,
    BatchCreateServerTagsRequest,
    BatchCreateServerTagsRequestBody,
    BatchDeleteServerTagsRequest,
    BatchDeleteServerTagsRequestBody,
    BatchStartServersOption,
    BatchStartServersRequest,
    BatchStartServersRequestBody,
    BatchStopServersOption,
    BatchStopServersRequest,
    BatchStopServersRequestBody,
    ChangeServerOsWithCloudInitOption,
    ChangeServerOsWithCloudInitRequest,
    ChangeServerOsWithCloudInitRequestBody,
    ChangeServerOsWithoutCloudInitOption,
    ChangeServerOsWithoutCloudInitRequest,
    ChangeServerOsWithoutCloudInitRequestBody,
    ChangeSeversOsMetadata,
    EcsClient,
    ListServerBlockDevicesRequest,
    ListServersDetailsRequest,
    NovaListKeypairsRequest,
    NovaShowKeypairRequest,
    ReinstallServerWithCloudInitOption,
    ReinstallServerWithCloudInitRequest,
    ReinstallServerWithCloudInitRequestBody,
    ReinstallServerWithoutCloudInitOption,
    ReinstallServerWithoutCloudInitRequest,
    ReinstallServerWithoutCloudInitRequestBody,
    ReinstallSeverMetadata,
    ServerId,
    ServerTag,
    ShowJobRequest,
    ShowServerRequest,
    ShowServerTagsRequest,
)
from judgement import (
    ACCESS_KEY,
    IMAGE_ID,
    PLAIN_IMAGE_ID,
    PROJECT_ID,
    SECRET_KEY,
    USER_ID,
    Mismatch,
    expect,
    order_fault,
    run,
    until,
)

SERVERS = 71
PASSWORD = "aPassword1!"
USER_DATA = "I2Nsb3VkLWNvbmZpZwo="


def a_client(url: str, secret: str = SECRET_KEY) -> Any:
    """Make a client that signs; with a project id it asks no identity service."""
    credentials = BasicCredentials(ACCESS_KEY, secret, PROJECT_ID)
    return EcsClient.new_builder().with_credentials(credentials).with_endpoint(url).build()


def system_disk(server: Any) -> str:
    """Return the id of the disk with boot index "0": a string in this call."""
    return next(
        volume.id for volume in server.os_extended_volumesvolumes_attached if volume.boot_index == "0"
    )


def follow(client: Any, job_id: str) -> Any:
    """Return a job at its end."""
    return until(
        f"job {job_id}",
        lambda: client.show_job(ShowJobRequest(job_id=job_id)),
        lambda job: job.status in {"SUCCESS", "FAIL"},
    )


def refused(call: Any, request: Any) -> tuple[int, str]:
    """Return status and code of a call that must be refused."""
    try:
        call(request)
    except ServiceResponseException as error:
        return error.status_code, error.error_code
    raise Mismatch("the call was not refused")


def order(server_id: str, key: str = "demo-key") -> ReinstallServerWithCloudInitRequest:
    """Make a reinstall request."""
    option = ReinstallServerWithCloudInitOption(
        keyname=key,
        userid=USER_ID,
        metadata=ReinstallSeverMetadata(user_data=USER_DATA),
    )
    return ReinstallServerWithCloudInitRequest(
        server_id=server_id, body=ReinstallServerWithCloudInitRequestBody(os_reinstall=option)
    )


def read(client: Any) -> list[Any]:
    """List and show; return the web servers."""
    servers: list[Any] = []
    for page in (1, 2, 3, 4):
        answer = client.list_servers_details(
            ListServersDetailsRequest(limit=25, offset=page, not_tags="__type_baremetal")
        )
        expect(f"count on page {page}", answer.count, SERVERS)
        servers.extend(answer.servers)
    expect("servers on all pages", len({server.id for server in servers}), SERVERS)
    by_tag = client.list_servers_details(ListServersDetailsRequest(limit=100, tags="role=db"))
    expect("servers by tag", min(server.name for server in by_tag.servers), "db-01")
    # A simulator that was judged before has servers that were left off.
    web = [server for server in servers if server.name.startswith("web-") and server.status == "ACTIVE"]
    first = web[0]
    shown = client.show_server(ShowServerRequest(server_id=first.id)).server
    expect(
        "status",
        (shown.status, shown.os_ext_st_svm_state, shown.os_ext_st_stask_state),
        ("ACTIVE", "active", None),
    )
    expect("zone", shown.os_ext_a_zavailability_zone[:5], "sim-1")
    expect("tags", shown.tags, ["role=web", "env=prod"])
    expect("flavor", (shown.flavor.vcpus, shown.flavor.ram), ("2", "4096"))
    expect("locked", shown.locked or "no", "no")
    devices = client.list_server_block_devices(ListServerBlockDevicesRequest(server_id=first.id))
    found = [(device.volume_id, device.boot_index) for device in devices.volume_attachments]
    expect("block devices", found, [(system_disk(shown), 0)])
    tags = client.show_server_tags(ShowServerTagsRequest(server_id=first.id)).tags
    expect("tags of a server", [(tag.key, tag.value) for tag in tags], [("role", "web"), ("env", "prod")])
    pairs = client.nova_list_keypairs(NovaListKeypairsRequest()).keypairs
    expect("key pairs", [pair.keypair.name for pair in pairs], ["demo-key"])
    pair = client.nova_show_keypair(NovaShowKeypairRequest(keypair_name="demo-key")).keypair
    expect("owner of the key pair", pair.user_id, USER_ID)
    return web


def change(client: Any, servers: list[Any]) -> None:
    """Stop two, reinstall one, be refused where it is due."""
    first, second = (
        client.show_server(ShowServerRequest(server_id=server.id)).server for server in servers[:2]
    )
    expect(
        "reinstall of a running server",
        refused(client.reinstall_server_with_cloud_init, order(first.id)),
        (400, "Ecs.0100"),
    )
    job = stop(client, [first.id, second.id], "SOFT")
    expect("stop", (job.job_type, job.status, job.entities.sub_jobs_total), ("serversAction", "SUCCESS", 2))
    expect("sub jobs", {each.entities.server_id for each in job.entities.sub_jobs}, {first.id, second.id})
    stopped = client.show_server(ShowServerRequest(server_id=first.id)).server
    expect("stopped", (stopped.status, stopped.os_ext_st_spower_state), ("SHUTOFF", 4))
    expect(
        "unknown key pair",
        refused(client.reinstall_server_with_cloud_init, order(first.id, "none")),
        (400, "Ecs.0314"),
    )
    accepted = client.reinstall_server_with_cloud_init(order(first.id))
    expect("length of a job id", len(accepted.job_id), 32)
    expect(
        "reinstall of a server in reinstall",
        refused(client.reinstall_server_with_cloud_init, order(first.id))[1],
        "Ecs.0603",
    )
    done = follow(client, accepted.job_id)
    expect("reinstall", (done.job_type, done.status, done.error_code), ("reinstallOsV2", "SUCCESS", None))
    after = until(
        "the start by the cloud itself",
        lambda: client.show_server(ShowServerRequest(server_id=first.id)).server,
        lambda look: look.status == "ACTIVE" and look.os_ext_st_stask_state is None,
    )
    expect("afterwards", (after.status, after.os_ext_st_stask_state), ("ACTIVE", None))
    expect("another system disk", "same" if system_disk(after) == system_disk(first) else "new", "new")


def start(client: Any, servers: list[str]) -> Any:
    """Start servers in a batch, and return its job at the end."""
    option = BatchStartServersOption(servers=[ServerId(id=server) for server in servers])
    request = BatchStartServersRequest(body=BatchStartServersRequestBody(os_start=option))
    return follow(client, client.batch_start_servers(request).job_id)


def stop(client: Any, servers: list[str], kind: str = "HARD") -> Any:
    """Stop servers in a batch, and return its job at the end."""
    option = BatchStopServersOption(servers=[ServerId(id=server) for server in servers], type=kind)
    request = BatchStopServersRequest(body=BatchStopServersRequestBody(os_stop=option))
    return follow(client, client.batch_stop_servers(request).job_id)


def install(client: Any, servers: list[Any], url: str) -> None:
    """Make every other call that installs, see one fail, and start what stays off."""
    ids = [server.id for server in servers]
    expect("hard stop", stop(client, ids).status, "SUCCESS")
    before = {each: system_disk(client.show_server(ShowServerRequest(server_id=each)).server) for each in ids}
    plain = ReinstallServerWithoutCloudInitOption(keyname="demo-key", userid=USER_ID)
    change = ChangeServerOsWithCloudInitOption(
        keyname="demo-key",
        userid=USER_ID,
        imageid=PLAIN_IMAGE_ID,
        metadata=ChangeSeversOsMetadata(user_data=USER_DATA),
    )
    simple = ChangeServerOsWithoutCloudInitOption(adminpass=PASSWORD, imageid=IMAGE_ID, mode="withStopServer")
    jobs = [
        client.reinstall_server_without_cloud_init(
            ReinstallServerWithoutCloudInitRequest(
                server_id=ids[0], body=ReinstallServerWithoutCloudInitRequestBody(os_reinstall=plain)
            )
        ).job_id,
        client.change_server_os_with_cloud_init(
            ChangeServerOsWithCloudInitRequest(
                server_id=ids[1], body=ChangeServerOsWithCloudInitRequestBody(os_change=change)
            )
        ).job_id,
        client.change_server_os_without_cloud_init(
            ChangeServerOsWithoutCloudInitRequest(
                server_id=ids[2], body=ChangeServerOsWithoutCloudInitRequestBody(os_change=simple)
            )
        ).job_id,
    ]
    types = ("reinstallOs", "changeOsV2", "changeOs")
    for server, job_id, kind in zip(ids, jobs, types, strict=False):
        job = follow(client, job_id)
        expect(kind, (job.job_type, job.status, job.fail_reason), (kind, "SUCCESS", None))
        expect(f"server of {kind}", [part.entities.server_id for part in parts_of(job)], [server])
        look = client.show_server(ShowServerRequest(server_id=server)).server
        expect(f"disks kept by {kind}", {system_disk(look)} & {before[server]}, set())
    changed = client.show_server(ShowServerRequest(server_id=ids[1])).server
    expect("the changed image", changed.metadata["metering.image_id"], PLAIN_IMAGE_ID)
    order_fault(url, "job-fails", code="Ecs.0202", text="Failed to create the system disk.")
    failed = follow(client, client.reinstall_server_with_cloud_init(order(ids[3])).job_id)
    expect(
        "a reinstall that fails",
        (failed.status, [(part.error_code, part.fail_reason) for part in parts_of(failed)]),
        ("FAIL", [("Ecs.0202", "Failed to create the system disk.")]),
    )
    start_some(client, ids[4:], url)


def parts_of(job: Any) -> list[Any]:
    """Return the jobs that name servers: a job's parts, or itself; the cloud answers in both ways."""
    return job.entities.sub_jobs or [job]


def start_some(client: Any, ids: list[str], url: str) -> None:
    """Start in a batch; let one of another batch fail."""
    job = start(client, ids)
    expect(
        "start",
        (job.job_type, job.status, job.entities.sub_jobs_total),
        ("serversAction", "SUCCESS", len(ids)),
    )
    look = client.show_server(ShowServerRequest(server_id=ids[0])).server
    expect("started", (look.status, look.os_ext_st_spower_state), ("ACTIVE", 1))
    stop(client, ids)
    order_fault(url, "job-fails", code="Ecs.0226", text="No host.", when={"call": "start", "server": ids[0]})
    job = start(client, ids)
    parts = {part.entities.server_id: (part.status, part.error_code) for part in job.entities.sub_jobs}
    expect("a start that fails for one", (job.status, job.error_code), ("FAIL", "Common.0021"))
    expect("its parts", (parts[ids[0]], parts[ids[1]]), (("FAIL", "Ecs.0226"), ("SUCCESS", None)))


def tag(client: Any, server: str) -> None:
    """Set tags and take them off."""
    tags = [BatchAddServerTag(key="owner", value="me"), BatchAddServerTag(key="bare", value="")]
    body = BatchCreateServerTagsRequestBody(action="create", tags=tags)
    client.batch_create_server_tags(BatchCreateServerTagsRequest(server_id=server, body=body))
    look = client.show_server(ShowServerRequest(server_id=server)).server
    expect("tags set", set(look.tags) & {"owner=me", "bare"}, {"owner=me", "bare"})
    body = BatchDeleteServerTagsRequestBody(
        action="delete", tags=[ServerTag(key="owner"), ServerTag(key="bare")]
    )
    client.batch_delete_server_tags(BatchDeleteServerTagsRequest(server_id=server, body=body))
    look = client.show_server(ShowServerRequest(server_id=server)).server
    expect("tags taken off", look.tags, ["role=web", "env=prod"])


def judge(url: str) -> None:
    """Ask everything; raises Mismatch at the first wrong answer."""
    warnings.simplefilter("error", TypeConversionWarning)
    client = a_client(url)
    servers = read(client)
    change(client, servers)
    install(client, servers[10:16], url)
    tag(client, servers[20].id)
    be_refused(client, servers[20].id, url)


def be_refused(client: Any, server: str, url: str) -> None:
    """Read the errors that are left."""
    expect("an unknown job", refused(client.show_job, ShowJobRequest(job_id="0" * 32)), (400, "Common.0011"))
    expect(
        "an unknown server",
        refused(client.show_server, ShowServerRequest(server_id="none")),
        (404, "Ecs.0114"),
    )
    expect(
        "a reinstall of an unknown server",
        refused(client.reinstall_server_with_cloud_init, order("none")),
        (404, "Ecs.0114"),
    )
    none = BatchStopServersOption(servers=[ServerId(id="none")], type="SOFT")
    expect(
        "a stop of an unknown server",
        refused(
            client.batch_stop_servers, BatchStopServersRequest(body=BatchStopServersRequestBody(os_stop=none))
        ),
        (404, "Ecs.0614"),
    )
    weak = ReinstallServerWithCloudInitOption(adminpass="weak")
    expect(
        "a weak password",
        refused(
            client.reinstall_server_with_cloud_init,
            ReinstallServerWithCloudInitRequest(
                server_id=server, body=ReinstallServerWithCloudInitRequestBody(os_reinstall=weak)
            ),
        ),
        (400, "Ecs.0011"),
    )
    expect(
        "a key pair that does not exist",
        refused(client.nova_show_keypair, NovaShowKeypairRequest(keypair_name="none"))[0],
        404,
    )
    # The SDK reads the body of every refusal but that of a 429, which it counts among its own failures.
    for status, code in ((429, "429"), (503, "Common.1503")):
        order_fault(url, "error-burst", status=status, when={"call": "list"})
        found = refused(client.list_servers_details, ListServersDetailsRequest())
        expect(f"an answer {status}", found, (status, code))
    wrong = a_client(url, secret="wrong")
    expect(
        "a wrong secret key",
        refused(wrong.list_servers_details, ListServersDetailsRequest()),
        (401, "APIGW.0301"),
    )


if __name__ == "__main__":
    sys.exit(run(judge, "the vendor's client agrees"))
