"""The bodies of the calls that change something, field for field.

ECS API reference: "Reinstalling/Changing an ECS OS" (with and without Cloud-Init), "Stopping/Starting
ECSs in a Batch". What cannot be sent is refused here, before anything leaves.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from fleet.cloud.api import MAX_USER_DATA, ReinstallOrder
from fleet.core.model import Call, ServerId
from fleet.errors import Rejected

PATHS: dict[Call, tuple[str, str, str]] = {
    Call.REINSTALL_CLOUD_INIT: ("v2", "reinstallos", "os-reinstall"),
    Call.REINSTALL_PLAIN: ("v1", "reinstallos", "os-reinstall"),
    Call.CHANGE_CLOUD_INIT: ("v2", "changeos", "os-change"),
    Call.CHANGE_PLAIN: ("v1", "changeos", "os-change"),
}
"""Version, last part of the path, and root of the body."""

CHANGES = frozenset({Call.CHANGE_CLOUD_INIT, Call.CHANGE_PLAIN})
WITH_CLOUD_INIT = frozenset({Call.REINSTALL_CLOUD_INIT, Call.CHANGE_CLOUD_INIT})


def reinstall(order: ReinstallOrder, *, user_id: str) -> dict[str, Any]:
    """Return the body of the call that wipes.

    Args:
        order: What to do.
        user_id: Who we are: the key pair's owner when the order names none.

    Raises:
        Rejected: The order cannot be sent as it is. Nothing was sent.
    """
    _, name, root = PATHS[order.call]
    _check(order, f"{name} of server {order.server}")
    fields: dict[str, Any] = {}
    if order.key_pair is not None:
        fields["keyname"] = order.key_pair
        fields["userid"] = order.user_id or user_id
    if order.admin_password is not None:
        fields["adminpass"] = order.admin_password
    if order.user_id and order.key_pair is None:
        fields["userid"] = order.user_id
    if order.stop_first:
        fields["mode"] = "withStopServer"
    if order.image is not None:
        fields["imageid"] = order.image
    metadata: dict[str, str] = {}
    if order.user_data is not None:
        metadata["user_data"] = b64encode(order.user_data).decode("ascii")
    if order.byol:
        metadata["BYOL"] = "true"  # any other value is ignored by some editions and an error in others
    if metadata:
        fields["metadata"] = metadata
    return {root: fields}


def _check(order: ReinstallOrder, what: str) -> None:
    if order.key_pair is not None and order.admin_password is not None:
        raise _refusal(f"{what}: a key pair and a password exclude each other", "set one of the two")
    if order.key_pair is None and order.admin_password is None and order.user_data is None:
        raise _refusal(f"{what}: no way to log in afterwards", "set key_pair, admin_password or user_data")
    if order.user_data is not None and len(order.user_data) > MAX_USER_DATA:
        raise _refusal(
            f"{what}: user data of {len(order.user_data)} bytes, at most {MAX_USER_DATA} can be sent",
            "compress it with gzip, or have it fetch the rest by #include",
        )
    if order.user_data is not None and order.call not in WITH_CLOUD_INIT:
        raise _refusal(
            f"{what}: user data needs an image with cloud-init", "drop user_data, or set cloud_init: true"
        )
    if (order.call in CHANGES) != (order.image is not None):
        raise _refusal(
            f"{what}: an image belongs to the change of an OS, and only to it", "set image, or not"
        )


def _refusal(message: str, hint: str) -> Rejected:
    return Rejected(message, hint=hint)


def stop(servers: Sequence[ServerId], *, force: bool) -> dict[str, Any]:
    """Return the body of a batch stop; *force* cuts the power."""
    return {"os-stop": {"type": "HARD" if force else "SOFT", "servers": [{"id": name} for name in servers]}}


def start(servers: Sequence[ServerId]) -> dict[str, Any]:
    """Return the body of a batch start."""
    return {"os-start": {"servers": [{"id": name} for name in servers]}}
