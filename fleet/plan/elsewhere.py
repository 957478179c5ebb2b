"""What a plan asks for that its kind of cloud does not have: refused, with the reason.

Only what asks for something is refused: ``byol: false`` is true of every cloud.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.errors import Problem
from fleet.plan.merge import Entry
from fleet.plan.reader import Document, Loc

_OPENSTACK = "openstack"

_NOT_ON_OPENSTACK: dict[tuple[str, ...], tuple[str, str]] = {
    ("reinstall", "byol"): ("Nova knows nothing of licences", "take it out"),
    ("reinstall", "user_id"): (
        "Nova takes a key pair of the authenticated user only",
        "take it out, and log in as the key pair's owner",
    ),
    ("reinstall", "mode"): (
        "Nova does not stop a server before it rebuilds it, and rebuilds a running one as well",
        "take it out: fleet stops the server first",
    ),
    ("reinstall", "cloud_init"): (
        "Nova has one call for all images; whether cloud-init is in an image is the image's own affair",
        "take it out",
    ),
    ("select", "enterprise_project"): ("OpenStack has no enterprise projects", "select by tags"),
    ("exclude", "enterprise_project"): ("OpenStack has no enterprise projects", "exclude by tags"),
}
_ONLY_ON_OPENSTACK: dict[tuple[str, ...], tuple[str, str]] = {
    ("reinstall", "preserve_ephemeral"): ("this cloud has no ephemeral disks", "take it out"),
}
_ENDPOINTS = frozenset({"compute", "image", "identity"})
"""Services of an OpenStack; every other one is of the ECS family."""

_ASKS_NOTHING: dict[str, object] = {
    "byol": False,
    "mode": "stop-first",
    "cloud_init": "auto",
    "preserve_ephemeral": False,
}


def not_on_this_cloud(document: Document, entries: list[Entry]) -> Iterator[Problem]:
    """Yield a problem for each part of the plan that its kind of cloud does not have."""
    ours = document.get("cloud", "provider") == _OPENSTACK
    cloud = "OpenStack" if ours else "this kind of cloud"
    blocks: list[Loc] = list(dict.fromkeys([(), ("defaults",), *(entry.loc for entry in entries)]))
    for block in blocks:
        for path, (why, hint) in (_NOT_ON_OPENSTACK if ours else _ONLY_ON_OPENSTACK).items():
            value = document.get(*block, *path)
            if value is not None and value != _ASKS_NOTHING.get(path[-1]):
                name = path[-1]
                yield document.problem((*block, *path), f"{name}: not on {cloud}: {why}", hint, at_key=True)
        backup = document.get(*block, "require", "backup")
        if ours and isinstance(backup, dict) and backup.get("command") is None:
            yield document.problem(
                (*block, "require", "backup"),
                "require.backup: not on OpenStack: Nova cannot say whether there is a backup",
                "name a command that can: require: {backup: {command: […]}}",
                at_key=True,
            )
    if ours and document.get("claim") is True:
        yield document.problem(
            ("claim",),
            "claim: not on OpenStack: Nova writes metadata as a whole, so two claims could erase each other",
            "take it out, and run the plan on one machine only",
            at_key=True,
        )
    if ours and document.get("protect", "enterprise_project") is not None:
        why, _ = _NOT_ON_OPENSTACK["select", "enterprise_project"]
        loc = ("protect", "enterprise_project")
        yield document.problem(
            loc, f"enterprise_project: not on OpenStack: {why}", "protect by tags", at_key=True
        )
    endpoints = document.get("cloud", "endpoints")
    for name in endpoints if isinstance(endpoints, dict) else ():
        if (name in _ENDPOINTS) is not ours:
            names = "compute, image, identity" if ours else "ecs, iam, ims, …"
            yield document.problem(
                ("cloud", "endpoints", name),
                f"endpoints.{name}: not a service of {cloud}",
                f"its services are {names}",
                at_key=True,
            )
