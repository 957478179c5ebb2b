"""The vendor's own signer judges ours: the same requests, the same signatures.

    python tests/judges/judge_signing.py [URL]

Needs ``huaweicloudsdkecs``, in an environment that has nothing of ours but msgspec: the signing is pure. With
the URL of a simulator, the vendor's client also logs in there with a temporary key. Exits 1 at the first
mismatch.
"""

from __future__ import annotations

import json
import random
import string
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from huaweicloudsdkecs.v2 import EcsClient, ListServersDetailsRequest

sys.path.insert(0, str(Path(__file__).parents[2]))

from fleet.cloud.ecs.signing import AccessKey, sign
from fleet.cloud.http import Request

REQUESTS = 3000
HOSTS = ("ecs.eu-de.otc.t-systems.com", "iam.myhuaweicloud.com", "127.0.0.1:8090")
LETTERS = string.ascii_letters + string.digits + " /-_.~!*'();:@&=+$,?#[]%äß中" + '"<>\\^`{|}'
PROJECT_ID = "0123456789abcdef0123456789abcdef"


class Mismatch(Exception):
    """We sign another way than the vendor does."""


def a_text(rng: random.Random, most: int = 12) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(0, most)))


def theirs(key: AccessKey, method: str, host: str, path: str, query: list[Any], **more: Any) -> str:
    """Return the vendor's Authorization."""
    request = SdkRequest(
        method=method,
        schema="https",
        host=host,
        resource_path=path,
        query_params=list(query),
        header_params=dict(more["headers"]),
        body=more["body"],
    )
    credentials = BasicCredentials(key.access, key.secret, PROJECT_ID)
    signed: str = Signer(credentials).sign(request).header_params["Authorization"]
    return signed


def compare(rng: random.Random) -> None:
    """Sign one request both ways."""
    token = rng.choice([None, "stsToken+/==" + a_text(rng).strip().encode("ascii", "ignore").decode()])
    key = AccessKey("AK" + str(rng.random())[2:], "SK" + str(rng.random())[2:], token)
    method, host = rng.choice(["GET", "POST", "PUT", "DELETE"]), rng.choice(HOSTS)
    path = "/" + "/".join(quote(a_text(rng), safe="") for _ in range(rng.randint(0, 5)))
    names = rng.sample(["limit", "offset", "tags", "not-tags", "name", "ä", "a b"], rng.randint(0, 4))
    query = [(name, a_text(rng)) for name in names]
    body = rng.choice([b"", json.dumps({"os-reinstall": {"keyname": a_text(rng)}}).encode()])
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randint(0, 10**8))
    headers = rng.choice([{}, {"Content-Type": "application/json"}])
    asked = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    url = f"https://{host}{path}?{asked}"
    made = sign(Request(method, url, headers, body or None), key, now, project_id=PROJECT_ID)
    sent = {**headers, "X-Sdk-Date": made["X-Sdk-Date"], "X-Project-Id": PROJECT_ID}
    if token:
        sent["X-Security-Token"] = token
    wanted = theirs(key, method, host, path, query, headers=sent, body=body)
    if made["Authorization"] != wanted:
        raise Mismatch(f"{method} {url}: {made['Authorization']!r} instead of {wanted!r}")


def a_temporary_key(url: str) -> dict[str, str]:
    """Get one of the simulator, as people do: for a token."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def post(path: str, identity: dict[str, Any], **headers: str) -> Any:
        body = json.dumps({"auth": {"identity": identity}}).encode()
        request = urllib.request.Request(url + path, body, headers)  # noqa: S310 - the caller's loopback URL
        return opener.open(request, timeout=30)

    user = {"name": "fleet", "password": "simulator", "domain": {"name": "simulator"}}
    token = post("/v3/auth/tokens", {"methods": ["password"], "password": {"user": user}})
    made = post(
        "/v3.0/OS-CREDENTIAL/securitytokens",
        {"methods": ["token"], "token": {"duration_seconds": 86400}},
        **{"X-Auth-Token": token.headers["X-Subject-Token"]},
    )
    found: dict[str, str] = json.load(made)["credential"]
    return found


def judge_temporary_key(url: str) -> None:
    """Let the vendor's client log in with a temporary key, with its token and without."""
    key = a_temporary_key(url)
    for token, wanted in ((key["securitytoken"], 200), (None, 401), ("wrong", 401)):
        credentials = BasicCredentials(key["access"], key["secret"], PROJECT_ID)
        if token:
            credentials = credentials.with_security_token(token)
        client = EcsClient.new_builder().with_credentials(credentials).with_endpoint(url).build()
        try:
            status = client.list_servers_details(ListServersDetailsRequest()).status_code
        except ServiceResponseException as error:
            status = error.status_code
        if status != wanted:
            raise Mismatch(f"a temporary key with the token {token!r}: {status} instead of {wanted}")
    print("ok: temporary keys")


def main() -> int:
    """Run the judge; return the exit code."""
    rng = random.Random(1)
    try:
        for _ in range(REQUESTS):
            compare(rng)
        print(f"ok: {REQUESTS} signatures")
        if len(sys.argv) > 1:
            judge_temporary_key(sys.argv[1].rstrip("/"))
    except Mismatch as mismatch:
        print(f"MISMATCH: {mismatch}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
