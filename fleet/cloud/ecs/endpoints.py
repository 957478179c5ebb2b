"""Where each service of the cloud is.

In this order: what the plan says, what the token's catalog says, what the identity service's own name
suggests (ECS API reference, endpoints: services differ in the first label of the host only). On
loopback, where the simulator lives, every service has the same address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from fleet.errors import CloudUnusable

Service = Literal["ecs", "ims", "evs", "as", "cbr", "cts"]

CATALOG_TYPES: dict[Service, tuple[str, ...]] = {
    "ecs": ("ecs",),
    "ims": ("image", "ims", "imsv2"),
    "evs": ("evs", "volumev3", "volumev2"),
    "as": ("as",),
    "cbr": ("cbr",),
    "cts": ("cts", "ctsv3"),
}
"""Types in the catalog. ``compute`` is the same host as a rule, but nobody promises it."""

IAM_PREFIXES = ("iam-pub.", "iam.")


@dataclass(frozen=True, slots=True)
class Offer:
    """One line of the catalog.

    Attributes:
        type: ``ecs``, ``image`` …
        region: As the catalog says, or empty.
        url: As the catalog says, paths and all.
    """

    type: str
    region: str
    url: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs, without a slash at the end.

    Attributes:
        iam: Of the identity service, without ``/v3``.
        overrides: By service, from the plan; win over everything.
        region: Which of several regions in the catalog; None: the first offer.
    """

    iam: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    region: str | None = None

    def base(self, service: Service, catalog: tuple[Offer, ...] = ()) -> str:
        """Return the base URL of *service*. Raises as `found`."""
        return self.found(service, catalog)[0]

    def found(self, service: Service, catalog: tuple[Offer, ...] = ()) -> tuple[str, str]:
        """Return the base URL of *service*, and in words what told it.

        Raises:
            CloudUnusable: Neither the plan, nor the catalog, nor the identity service's name tells.
        """
        if given := self.overrides.get(service):
            return given.rstrip("/"), "an override"
        parts = urlsplit(self.iam)
        if is_loopback(parts.hostname or ""):
            return self.iam, "loopback: every service has one address"
        offers = [offer for offer in catalog if offer.type in CATALOG_TYPES[service] and origin(offer.url)]
        if self.region and offers:
            regions = sorted({offer.region for offer in offers})
            offers = [offer for offer in offers if offer.region in {self.region, "", "*"}]
            if not offers and service == "ecs":
                # Never another region's: what the plan selects there would be other servers.
                raise CloudUnusable(
                    f"the service {service!r} is not in region {self.region} for this project, but in"
                    f" {', '.join(regions)}",
                    hint="check cloud.region (OS_REGION_NAME, region_name) against the project: each is in"
                    f" one region; or write cloud.endpoints.{service}",
                )
        for offer in offers:
            if address := origin(offer.url):
                return address, "the catalogue"
        netloc = parts.netloc.rpartition("@")[2]
        for prefix in IAM_PREFIXES:
            if netloc.startswith(prefix):
                rest = netloc.removeprefix(prefix)
                # The vendor's global identity service is of no region; the others are.
                if rest.startswith("myhuaweicloud.") and self.region:
                    rest = f"{self.region}.{rest}"
                return f"{parts.scheme}://{service}.{rest}", "the identity service's name"
        raise CloudUnusable(
            f"no address of the service {service!r} is known",
            hint=f"write it into the plan: cloud.endpoints.{service}: https://{service}.REGION.…",
        )


_IAM_OF_REGION = {
    "eu-de": "iam.eu-de.otc.t-systems.com",
    "eu-nl": "iam.eu-nl.otc.t-systems.com",
    "eu-ch2": "iam-pub.eu-ch2.sc.otc.t-systems.com",
    "eu-west-0": "iam.eu-west-0.prod-cloud-ocb.orange-business.com",
    "eu-west-101": "iam.eu-west-101.myhuaweicloud.eu",
}
"""Regions of other brands than the vendor's own; docs/dialects.md has the sources."""


def identity_of_region(region: str) -> str:
    """Return the identity service's base URL of a region, for logins that name no address.

    Raises:
        CloudUnusable: That is no region's name.
    """
    if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", region) is None:
        raise CloudUnusable(f"{region!r} is no region", hint="write it like eu-de or cn-north-4")
    return f"https://{_IAM_OF_REGION.get(region, f'iam.{region}.myhuaweicloud.com')}"


def identity_base(auth_url: str) -> str:
    """Return the identity service's base URL from any usual form of ``OS_AUTH_URL``.

    Raises:
        CloudUnusable: It is no URL, or of an older version.
    """
    url = auth_url.strip().rstrip("/").removesuffix("/auth/tokens").rstrip("/")
    if url.endswith("/v2.0"):
        raise CloudUnusable(
            "OS_AUTH_URL is for version 2 of the identity API", hint="write …/v3 instead of …/v2.0"
        )
    url = url.removesuffix("/v3").rstrip("/")
    if not origin(url):
        raise CloudUnusable(
            "OS_AUTH_URL is no URL", hint="write it like https://iam.eu-de.otc.t-systems.com/v3"
        )
    return url


def origin(url: str) -> str:
    """Return scheme, host and port of a URL, or nothing when it is none."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return ""
    if not host or parts.scheme not in {"http", "https"}:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Tell whether *host* is this machine, by its name alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
