"""Where each service is: what the plan says, else the token's catalog. Nothing is guessed from host names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fleet.cloud.ecs.endpoints import Offer
from fleet.errors import CloudUnusable

Service = Literal["compute", "image"]

CATALOG_TYPES: dict[Service, tuple[str, ...]] = {"compute": ("compute",), "image": ("image",)}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs, without a slash at the end.

    Attributes:
        overrides: By service, from the plan; win over the catalog.
        region: Which of several in the catalog; None: there must be one only.
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    region: str | None = None

    def base(self, service: Service, catalog: tuple[Offer, ...], project: str) -> str:
        """Return the base URL of *service*: Nova's ends in ``/v2.1``, Glance's in ``/v2``.

        Older catalogs put *project* into Nova's URL; Nova does not need it.

        Raises:
            CloudUnusable: There is none, or one in each of several regions.
        """
        return self.found(service, catalog, project)[0]

    def found(self, service: Service, catalog: tuple[Offer, ...], project: str) -> tuple[str, str]:
        """Return what `base` does, and in words what told it. Raises as `base`."""
        given = self.overrides.get(service)
        source = "the catalogue" if given is None else "an override"
        url = (given or self._from_catalog(service, catalog)).rstrip("/")
        if service != "compute":
            return re.sub(r"/v\d+(\.\d+)?$", "", url) + "/v2", source
        url = url.removesuffix(f"/{project}")
        # Version 2 is the same API without microversions, kept for old clients at its side.
        spoken = re.sub(r"/v2$", "/v2.1", url) if re.search(r"/v2(\.\d+)?$", url) else f"{url}/v2.1"
        return spoken, source

    def _from_catalog(self, service: Service, catalog: tuple[Offer, ...]) -> str:
        offers = [offer for offer in catalog if offer.type in CATALOG_TYPES[service] and offer.url]
        regions = sorted({offer.region for offer in offers})
        if self.region:
            offers = [offer for offer in offers if offer.region in {self.region, "", "*"}]
        elif len(regions) > 1:
            raise CloudUnusable(
                f"the service {service!r} is in several regions: {', '.join(regions)}",
                hint="name one with cloud.region or OS_REGION_NAME",
            )
        if not offers:
            known = f": it is in {', '.join(regions)}" if regions else ""
            where = f" in region {self.region}" if self.region else ""
            raise CloudUnusable(
                f"the catalog has no public address of the service {service!r}{where}{known}",
                hint=f"check cloud.region, or write cloud.endpoints.{service}",
            )
        return offers[0].url
