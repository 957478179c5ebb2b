"""Which server are we? A plan must never wipe the machine that `fleet` runs on.

Offline, from what cloud-init and the hypervisor leave on a cloud server: on OpenStack-like clouds the
instance id is the server's id. Elsewhere nothing is found, and nothing needs to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_SOURCES = (
    Path("/var/lib/cloud/data/instance-id"),  # cloud-init: readable by everybody
    Path("/run/cloud-init/.instance-id"),
    Path("/sys/class/dmi/id/product_uuid"),  # the hypervisor: readable by root
    Path("/sys/class/dmi/id/product_serial"),
)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def own_server_ids(sources: Iterable[Path] = _SOURCES) -> frozenset[str]:
    """Return the ids that this machine may have as a cloud server; empty when it is none."""
    found: set[str] = set()
    for source in sources:
        try:
            text = source.read_text(errors="replace").lower()
        except OSError:
            continue
        found.update(_UUID.findall(text))
    return frozenset(found)
