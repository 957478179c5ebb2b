"""The bodies of the calls that change something (Compute API reference, "Server actions")."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from fleet.cloud.api import MAX_USER_DATA, ReinstallOrder
from fleet.errors import Rejected

STOP: dict[str, Any] = {"os-stop": None}
START: dict[str, Any] = {"os-start": None}


def rebuild(order: ReinstallOrder, *, image: str) -> dict[str, Any]:
    """Return the body of the call that wipes.

    Metadata is left out: a rebuild that names any replaces all of it, and would undo what somebody has
    written since we looked.

    Args:
        order: What to do.
        image: What is installed; Nova wants it named, also when it is the same again.

    Raises:
        Rejected: The order cannot be sent as it is. Nothing was sent.
    """
    what = f"rebuild of server {order.server}"
    if order.byol or order.stop_first:
        raise Rejected(f"{what}: Nova knows neither byol nor a stop of its own")
    if order.user_data is not None and len(order.user_data) > MAX_USER_DATA:
        raise Rejected(
            f"{what}: user data of {len(order.user_data)} bytes; at most {MAX_USER_DATA} are taken"
        )
    body: dict[str, Any] = {"imageRef": image}
    if order.key_pair is not None:
        body["key_name"] = order.key_pair
    if order.admin_password is not None:
        body["adminPass"] = order.admin_password
    if order.user_data is not None:  # left out, Nova keeps what the server has
        body["user_data"] = b64encode(order.user_data).decode()
    if order.preserve_ephemeral:
        body["preserve_ephemeral"] = True
    return {"rebuild": body}
