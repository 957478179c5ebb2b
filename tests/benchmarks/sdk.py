"""The official SDK with threads: a pool, and a poll per second and job. For comparison.

    .venv-judges/bin/python tests/benchmarks/sdk.py URL CONCURRENCY

As `naive.py`, with the vendor's client in place of ours: no journal, no look before the wipe, no repetition.
Needs ``huaweicloudsdkecs`` and nothing of ours.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import SdkException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkecs.v2 import (
    BatchStopServersOption,
    BatchStopServersRequest,
    BatchStopServersRequestBody,
    EcsClient,
    ListServersDetailsRequest,
    ReinstallServerWithCloudInitOption,
    ReinstallServerWithCloudInitRequest,
    ReinstallServerWithCloudInitRequestBody,
    ServerId,
    ShowJobRequest,
)

# As in harness.py and fleet/cloud/simulator/defaults.py, neither of which may be importable here.
ACCESS_KEY, SECRET_KEY = "SIMULATORKEY00000001", "simulatorSecretKey00000000000000000000001"
PROJECT_ID, USER_ID = "0123456789abcdef0123456789abcdef", "7e25b1da389f4697a79df3a0e5bd494e"
POLL_S = 1.0


class JobFailed(Exception):
    """A job has ended, and not well."""


def follow(client: Any, job: str) -> None:
    """Wait for a job's end."""
    while True:
        time.sleep(POLL_S)
        status = client.show_job(ShowJobRequest(job_id=job)).status
        if status == "SUCCESS":
            return
        if status == "FAIL":
            raise JobFailed(job)


def reinstall(client: Any, server: str) -> bool:
    """Stop and reinstall a server; tell whether it went well."""
    stop = BatchStopServersOption(servers=[ServerId(id=server)], type="SOFT")
    order = ReinstallServerWithCloudInitOption(keyname="demo-key", userid=USER_ID)
    try:
        request = BatchStopServersRequest(body=BatchStopServersRequestBody(os_stop=stop))
        follow(client, client.batch_stop_servers(request).job_id)
        body = ReinstallServerWithCloudInitRequestBody(os_reinstall=order)
        wipe = ReinstallServerWithCloudInitRequest(server_id=server, body=body)
        follow(client, client.reinstall_server_with_cloud_init(wipe).job_id)
    except (SdkException, JobFailed, OSError):
        return False
    return True


def main(url: str, concurrency: int) -> None:
    """Reinstall every server of the project; print the makespan."""
    config = HttpConfig.get_default_config()
    config.pool_maxsize = concurrency  # else it opens a connection for most calls
    credentials = BasicCredentials(ACCESS_KEY, SECRET_KEY, PROJECT_ID)
    client = (
        EcsClient.new_builder()
        .with_credentials(credentials)
        .with_endpoint(url)
        .with_http_config(config)
        .build()
    )
    servers: list[str] = []
    while True:
        page = client.list_servers_details(
            ListServersDetailsRequest(limit=1000, offset=len(servers) // 1000 + 1)
        )
        servers += [server.id for server in page.servers]
        if len(servers) >= page.count or not page.servers:
            break
    began = time.monotonic()
    with ThreadPoolExecutor(concurrency) as pool:
        went_well = list(pool.map(lambda server: reinstall(client, server), servers))
    taken = round(time.monotonic() - began, 3)
    print(json.dumps({"makespan_s": taken, "failed": went_well.count(False)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
