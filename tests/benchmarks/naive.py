"""The client that one writes in an afternoon: a semaphore, and a poll per second and job. For comparison.

    python tests/benchmarks/naive.py URL CONCURRENCY

It has no journal, looks at nothing before it wipes, and repeats nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp

from fleet.cloud.simulator import defaults

POLL_S = 1.0


class JobFailed(Exception):
    """A job has ended, and not well."""


async def login(session: aiohttp.ClientSession, url: str) -> tuple[str, str, dict[str, str]]:
    """Log in; return the project's address, our user's id, and the headers of every call."""
    domain = {"name": defaults.DOMAIN_NAME}
    user = {"name": defaults.USER_NAME, "password": defaults.USER_PASSWORD, "domain": domain}
    auth = {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": defaults.PROJECT_NAME, "domain": domain}},
    }
    async with session.post(f"{url}/v3/auth/tokens", json={"auth": auth}) as answer:
        answer.raise_for_status()
        headers = {"X-Auth-Token": answer.headers["X-Subject-Token"]}
        token = (await answer.json())["token"]
    return f"{url}/v1/{token['project']['id']}", token["user"]["id"], headers


async def main(url: str, concurrency: int) -> None:
    """Reinstall every server of the project; print the makespan."""
    async with aiohttp.ClientSession() as session:
        base, owner, headers = await login(session, url)
        slots = asyncio.Semaphore(concurrency)

        async def done(response: aiohttp.ClientResponse) -> None:
            response.raise_for_status()
            job = (await response.json())["job_id"]
            while True:
                await asyncio.sleep(POLL_S)
                async with session.get(f"{base}/jobs/{job}", headers=headers) as answer:
                    answer.raise_for_status()
                    status = (await answer.json())["status"]
                if status == "SUCCESS":
                    return
                if status == "FAIL":
                    raise JobFailed(job)

        async def reinstall(server: str) -> bool:
            stop = {"os-stop": {"type": "SOFT", "servers": [{"id": server}]}}
            order = {"os-reinstall": {"keyname": "demo-key", "userid": owner}}
            path = f"{base.replace('/v1/', '/v2/')}/cloudservers/{server}/reinstallos"
            async with slots:
                try:
                    async with session.post(
                        f"{base}/cloudservers/action", json=stop, headers=headers
                    ) as answer:
                        await done(answer)
                    async with session.post(path, json=order, headers=headers) as answer:
                        await done(answer)
                except (aiohttp.ClientError, JobFailed):
                    return False
            return True

        servers: list[str] = []
        while True:
            query = f"limit=1000&offset={len(servers) // 1000 + 1}"
            async with session.get(f"{base}/cloudservers/detail?{query}", headers=headers) as answer:
                page = await answer.json()
            servers += [server["id"] for server in page["servers"]]
            if len(servers) >= page["count"] or not page["servers"]:
                break
        began = time.monotonic()
        went_well = await asyncio.gather(*(reinstall(server) for server in servers))
        taken = round(time.monotonic() - began, 3)
        print(json.dumps({"makespan_s": taken, "failed": went_well.count(False)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
