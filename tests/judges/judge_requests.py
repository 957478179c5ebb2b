"""The vendor's models judge what our client sends, and what the built-in cloud answers.

    python tests/judges/judge_requests.py RECORD

RECORD is of `record_ours.py`. Each request is read with the models of the SDK that knows its operation and
written again as the SDK writes it: the two must be the same in method, path, query and body. Nothing is
forgiven that the SDK itself forgives: no unknown key, no other type. The answers are held against the models
as strictly. What our OpenStack client sends is held against what openstacksdk sends for the same orders.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from huaweicloudsdkcore.utils import http_utils
from judgement import USER_ID, Mismatch
from keystoneauth1.adapter import Adapter
from openstack.compute.v2.server import Server
from vendor import V3_QUOTA, Operation, Sent, candidates, ours, refusals, theirs

EXPECTED = {
    "as.list_scaling_groups",
    "as.list_scaling_instances",
    "cbr.list_backups",
    "cts.list_traces",
    "ecs.batch_create_server_tags",
    "ecs.batch_delete_server_tags",
    "ecs.batch_start_servers",
    "ecs.batch_stop_servers",
    "ecs.change_server_os_with_cloud_init",
    "ecs.change_server_os_without_cloud_init",
    "ecs.list_servers_details",
    "ecs.nova_show_keypair",
    "ecs.reinstall_server_with_cloud_init",
    "ecs.reinstall_server_without_cloud_init",
    "ecs.show_job",
    "ecs.show_server",
    "evs.cinder_list_quotas",
    "iam.keystone_create_user_token_by_password",
    "iam.keystone_list_projects",
    "iam.show_permanent_access_key",
    "ims.glance_show_image",
}
"""All that our client ever asks for. A call that is missing here, or in the record, is no good sign."""

PREFERRED = {None: "keystone_create_user_token_by_password", "delete": "batch_delete_server_tags"}
"""Where several operations share a path and their models fit alike: by the action that the body names."""

CALLS = {
    "reinstall-v2": ("WithCloudInit", False),
    "reinstall-v1": ("WithoutCloudInit", False),
    "changeos-v2": ("WithCloudInit", True),
    "changeos-v1": ("WithoutCloudInit", True),
}
"""Our calls that install, in the SDK's words; the second says whether the image changes."""

KNOWN = {
    "body.auth.identity.password.user.id is unknown to PwdPasswordUser": (
        "Keystone's own form, for logins with OS_USER_ID; the SDK logs in by name only"
    ),
}
"""What the SDK's models do not have, and is right all the same."""


class Judged:
    """Counts what was judged.

    Attributes:
        seen: Requests by operation.
        known: How often each known difference was met.
        installs: The requests that install.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.installs: list[Sent] = []

    def request(self, exchange: dict[str, Any]) -> None:
        """Judge a request and its answer."""
        sent = ours(exchange, base64.b64decode(exchange["body"]))
        sent = replace(sent, path=sent.path.replace(*V3_QUOTA))
        if sent.path.endswith(("/reinstallos", "/changeos")):
            self.installs.append(sent)
        operation, problems = self._closest(sent)
        problems = [each for each in problems if not self._is_known(each)]
        if problems:
            raise Mismatch(f"{sent.method} {sent.path} as {operation.name}: {'; '.join(problems)}")
        if sent.body is not None and "json" not in exchange["headers"].get("content-type", ""):
            raise Mismatch(f"{sent.method} {sent.path}: its body is not said to be JSON")
        self.seen[f"{operation.sdk}.{operation.name}"] += 1
        if 200 <= exchange["status"] < 300:
            raw = base64.b64decode(exchange["answer"])
            kind = operation.response
            found = list(
                refusals(operation.client, json.loads(raw) if raw else {}, kind, "the answer", nulls=True)
            )
            if found:
                raise Mismatch(f"the answer to {sent.method} {sent.path}: {'; '.join(found[:5])}")

    def _is_known(self, problem: str) -> bool:
        self.known[problem] += problem in KNOWN
        return problem in KNOWN

    def _closest(self, sent: Sent) -> tuple[Operation, list[str]]:
        """Return the operation that a request is, and what is wrong with it."""
        judged = []
        preferred = PREFERRED.get((sent.body or {}).get("action"))
        for operation in candidates(sent.method, sent.path):
            made, problems = theirs(operation, sent)
            if not problems and made != sent:
                problems = [f"the SDK sends {made} instead of {sent}"]
            judged.append((len(problems), operation.name != preferred, operation, problems))
        if not judged:
            raise Mismatch(f"{sent.method} {sent.path}: no SDK has such a call")
        return min(judged, key=lambda each: each[:2])[2:]


def as_the_sdk_sends(order: dict[str, Any], sent: Sent) -> Any:
    """Return the body that the SDK makes for an order, in the words of its own models."""
    models = importlib.import_module("huaweicloudsdkecs.v2")
    name, change = CALLS[order["call"]]
    kind = "Change" if change else "Reinstall"
    prefix = f"{kind}Server{'Os' if change else ''}{name}"
    option = getattr(models, f"{prefix}Option")(
        adminpass=order["admin_password"],
        keyname=order["key_pair"],
        userid=order["user_id"] or (USER_ID if order["key_pair"] else None),
        mode="withStopServer" if order["stop_first"] else None,
    )
    if change:
        option.imageid = order["image"]
    if order["user_data"] or order["byol"]:
        metadata = models.ChangeSeversOsMetadata if change else models.ReinstallSeverMetadata
        option.metadata = metadata(user_data=order["user_data"], byol="true" if order["byol"] else None)
    wrapped = {"os_change": option} if change else {"os_reinstall": option}
    if not sent.path.endswith(f"/{order['server']}/{'changeos' if change else 'reinstallos'}"):
        raise Mismatch(f"{sent.path}: of another order than {order['server']}")
    return http_utils.sanitize_for_serialization(getattr(models, f"{prefix}RequestBody")(**wrapped))


def judge_orders(orders: list[dict[str, Any]], installs: list[Sent]) -> None:
    """See that each order went out as the SDK sends it, once."""
    for order, sent in zip(orders, installs, strict=True):
        wanted = as_the_sdk_sends(order, sent)
        if sent.body != wanted:
            raise Mismatch(f"{sent.path}: {sent.body} instead of {wanted}")
    print(f"ok: {len(orders)} orders to install, sent as the SDK sends them")


def judge_ecs(sessions: list[dict[str, Any]]) -> None:
    """Judge everything that our client of the vendor's clouds sends."""
    judged = Judged()
    for session in sessions:
        for exchange in session["exchanges"]:
            judged.request(exchange)
    judge_orders([order for session in sessions for order in session["orders"]], judged.installs)
    if set(judged.seen) != EXPECTED:
        raise Mismatch(f"operations only on one side: {sorted(set(judged.seen) ^ EXPECTED)}")
    unmet = [each for each in KNOWN if not judged.known[each]]
    if unmet:
        raise Mismatch(f"not met any more, to be taken off the list: {unmet}")
    print(f"ok: {sum(judged.seen.values())} requests of {len(judged.seen)} operations, and their answers")


class Wire(Adapter):
    """Stands where openstacksdk sends, and keeps what it would send."""

    def __init__(self) -> None:
        super().__init__(session=None, default_microversion="2.93")
        self.sent: list[dict[str, Any]] = []
        self.retriable_status_codes = None

    def request(self, url: str, method: str, **more: Any) -> Any:
        self.sent.append(
            {"path": f"/v2.1{url if url.startswith('/') else '/' + url}", "method": method, **more}
        )
        return SimpleNamespace(status_code=202, headers={}, json=lambda: {"server": {}})


ORDERED = {
    "image": "image",
    "key_pair": "key_name",
    "admin_password": "admin_password",
    "user_data": "user_data",
    "preserve_ephemeral": "preserve_ephemeral",
}
"""What an order of ours has, and what openstacksdk calls it."""


def as_openstacksdk_sends(action: str, server_id: str, body: Any, orders: list[Any]) -> tuple[str, Any]:
    """Return path and body of the request that openstacksdk makes for the same work."""
    wire, server = Wire(), Server.existing(id=server_id)
    if action == "rebuild":
        order = orders.pop(0)
        wanted = {theirs: order[ours] for ours, theirs in ORDERED.items() if order[ours]}
        server.rebuild(wire, **wanted)
    else:
        {"os-stop": server.stop, "os-start": server.start}[action](wire)
    (sent,) = wire.sent
    return sent["path"], sent["json"]


def judge_sent(session: dict[str, Any]) -> int:
    """Compare the actions that our OpenStack client asks for, and the microversion of all of Nova's calls."""
    actions: Counter[str] = Counter()
    orders = list(session["orders"])
    for exchange in session["exchanges"]:
        path = urlsplit(exchange["url"]).path
        if path.startswith("/v2.1/") and path != "/v2.1/":
            spoken = exchange["headers"].get("openstack-api-version")
            if spoken != "compute 2.93":
                raise Mismatch(f"{path}: microversion {spoken}")
        if exchange["method"] == "POST" and path.startswith("/v2.1/"):
            body = json.loads(base64.b64decode(exchange["body"]))
            theirs = as_openstacksdk_sends(next(iter(body)), path.split("/")[-2], body, orders)
            if theirs != (path, body):
                raise Mismatch(f"we send {path} {body}, openstacksdk sends {theirs}")
            actions.update(list(body))
    if set(actions) != {"os-stop", "rebuild", "os-start"} or orders:
        raise Mismatch(f"actions: {dict(actions)}, and {len(orders)} orders without one")
    return sum(actions.values())


def main() -> int:
    """Run the judge; return the exit code."""
    sessions = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        judge_ecs([each for each in sessions if each["client"] == "ecs"])
        sent = judge_sent(next(each for each in sessions if each["client"] == "openstack"))
        print(f"ok: {sent} actions on Nova, sent as openstacksdk sends them")
    except Mismatch as mismatch:
        print(f"MISMATCH: {mismatch}", file=sys.stderr)
        return 1
    print("foreign clients send what ours send")
    return 0


if __name__ == "__main__":
    sys.exit(main())
