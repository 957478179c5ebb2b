"""The vendor's own client judges the built-in cloud: it signs, lists, stops, reinstalls and reads errors.

    python tests/judges/judge_huawei_sdk.py [URL]

Needs ``huaweicloudsdkecs`` (extra ``judges``). With a URL it asks a simulator that is already there, with
the default fleet and a high speed (and can live in an environment without our dependencies); without, it
starts one of its own. Exits 1 at the first mismatch: the SDK itself requires nothing of an answer, so
every field is asserted here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkecs.v2 import (
    BatchStopServersOption,
    BatchStopServersRequest,
    BatchStopServersRequestBody,
    EcsClient,
    ListServerBlockDevicesRequest,
    ListServersDetailsRequest,
    NovaListKeypairsRequest,
    NovaShowKeypairRequest,
    ReinstallServerWithCloudInitOption,
    ReinstallServerWithCloudInitRequest,
    ReinstallServerWithCloudInitRequestBody,
    ReinstallSeverMetadata,
    ServerId,
    ShowJobRequest,
    ShowServerRequest,
    ShowServerTagsRequest,
)

# As in fleet/cloud/simulator/defaults.py; written out, since that may not be importable here.
PROJECT_ID = "0123456789abcdef0123456789abcdef"
USER_ID = "7e25b1da389f4697a79df3a0e5bd494e"
ACCESS_KEY = "SIMULATORKEY00000001"
SECRET_KEY = "simulatorSecretKey00000000000000000000001"
SERVERS = 71
PATIENCE_S = 60.0
ROOT = Path(__file__).parents[2]

_SIMULATOR = """
import asyncio
from fleet.cloud.simulator.fleetfile import default_fleet
from fleet.cloud.simulator.server import serve
asyncio.run(serve(default_fleet(speed=100), idle_exit_s=60, on_ready=lambda url: print(url, flush=True)))
"""


class Mismatch(Exception):
    """The simulator is not what the SDK expects."""


def expect(what: str, found: object, wanted: object) -> None:
    """Compare one thing, and say so."""
    if found != wanted:
        raise Mismatch(f"{what}: {found!r} instead of {wanted!r}")
    print(f"ok: {what}")


@contextmanager
def a_simulator() -> Iterator[str]:
    """Start a simulator of our own, stop it in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", _SIMULATOR], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline().strip() if process.stdout else ""
            if not line.startswith("http://"):
                raise Mismatch("the simulator did not start")
            yield line
        finally:
            process.terminate()


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
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        job = client.show_job(ShowJobRequest(job_id=job_id))
        if job.status in {"SUCCESS", "FAIL"}:
            return job
        time.sleep(0.05)
    raise Mismatch(f"job {job_id} did not end")


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
        metadata=ReinstallSeverMetadata(user_data="I2Nsb3VkLWNvbmZpZwo="),
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
    option = BatchStopServersOption(servers=[ServerId(id=first.id), ServerId(id=second.id)], type="SOFT")
    stop = client.batch_stop_servers(
        BatchStopServersRequest(body=BatchStopServersRequestBody(os_stop=option))
    )
    job = follow(client, stop.job_id)
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
    time.sleep(0.3)
    after = client.show_server(ShowServerRequest(server_id=first.id)).server
    expect("afterwards", (after.status, after.os_ext_st_stask_state), ("ACTIVE", None))
    expect("another system disk", "same" if system_disk(after) == system_disk(first) else "new", "new")


def judge(url: str) -> None:
    """Ask everything; raises Mismatch at the first wrong answer."""
    client = a_client(url)
    servers = read(client)
    change(client, servers)
    expect("an unknown job", refused(client.show_job, ShowJobRequest(job_id="0" * 32)), (400, "Common.0011"))
    expect(
        "an unknown server",
        refused(client.show_server, ShowServerRequest(server_id="none")),
        (404, "Ecs.0114"),
    )
    wrong = a_client(url, secret="wrong")
    expect(
        "a wrong secret key",
        refused(wrong.list_servers_details, ListServersDetailsRequest()),
        (401, "APIGW.0301"),
    )


def main() -> int:
    """Run the judge; return the exit code."""
    try:
        if len(sys.argv) > 1:
            judge(sys.argv[1].rstrip("/"))
        else:
            with a_simulator() as url:
                judge(url)
    except Mismatch as mismatch:
        print(f"MISMATCH: {mismatch}", file=sys.stderr)
        return 1
    print("the vendor's client agrees")
    return 0


if __name__ == "__main__":
    sys.exit(main())
