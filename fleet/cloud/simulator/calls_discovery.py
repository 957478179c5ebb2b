"""What services say of themselves, to anybody: which versions there are, and where.

Clients of OpenStack ask this first, without a token (API versioning guides of Keystone, Nova, Glance). All
services live at one address here; its root is Glance's, as the catalogue has it.
"""

from __future__ import annotations

from typing import Any, Final

from fleet.cloud.simulator.calls import Answer, Backend, Call, Route

NEWEST: Final = (2, 96)
"""Nova's newest microversion here (OpenStack 2024.1)."""
OLDEST: Final = (2, 1)


def spell(version: tuple[int, int]) -> str:
    """Return a microversion as it is written."""
    return f"{version[0]}.{version[1]}"


def _entry(backend: Backend, number: str, path: str, **more: object) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{backend.base_url}{path}/"}]
    return {"id": number, "status": "CURRENT", "links": links, **more}


def identity(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v3/``: Keystone."""
    media = [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}]
    found = _entry(backend, "v3.14", "/v3", updated="2020-04-07T00:00:00Z", **{"media-types": media})
    return Answer(200, {"version": {**found, "status": "stable"}})


def compute(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v2.1/``: Nova, with its microversions."""
    found = _entry(backend, "v2.1", "/v2.1", version=spell(NEWEST), min_version=spell(OLDEST))
    return Answer(200, {"version": {**found, "updated": "2013-07-23T11:33:21Z"}})


def image(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /``: Glance answers with a choice, status 300."""
    newest = _entry(backend, "v2.9", "/v2")
    older = {**_entry(backend, "v2.0", "/v2"), "status": "SUPPORTED"}
    return Answer(300, {"versions": [newest, older]})


DISCOVERY: Final = (
    Route("GET", "", "version", image),
    Route("GET", "/v3", "version", identity),
    Route("GET", "/v2.1", "version", compute),
)
