"""What `preview` and `run` share: survey a plan's servers, with a manifest or without, and look ahead."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path

from fleet import freeze, history
from fleet import manifest as manifests
from fleet.cli.common import now
from fleet.cli.earlier import leave_out
from fleet.cloud.api import Cloud
from fleet.core.preflight import Finding
from fleet.core.settings import SHUFFLE
from fleet.core.windows import Schedule
from fleet.errors import PlanError, Problem
from fleet.manifest import SHOWN, Manifest
from fleet.objections import Objections
from fleet.plan import LoadedPlan
from fleet.report.outlook import Outlook, outlook
from fleet.survey import Pin, Survey, survey
from fleet.whereami import own_server_ids


async def look(
    loaded: LoadedPlan,
    cloud: Cloud,
    state: Path,
    *,
    limit: tuple[str, ...] = (),
    skip_unfit: bool = False,
    manifest: Manifest | None = None,
    again: bool = False,
) -> tuple[Survey, Outlook]:
    """Survey a plan's servers; with a *manifest*, those that it names and that are still as it says.

    Whom an earlier run of the plan has tried is left out, unless *again*.
    """
    shuffled = any(SHUFFLE in target.rollout.order for target in loaded.settings.targets)
    seed = secrets.randbits(32) if shuffled else 0
    found = await survey(
        cloud,
        loaded.settings,
        loaded.user_data,
        limit=limit if manifest is None else (),
        skip_unfit=skip_unfit or manifest is not None,
        own_ids=own_server_ids(),
        object_to=Objections(state, loaded.settings).of,
        pin=Pin(seed=seed) if manifest is None else manifest.pin,
        now=now(),
    )
    if manifest is not None:
        found = manifests.pinned(found, manifest)
    if not again:
        leave_out(state, found)
    seen = history.read(state, loaded.settings.plan)
    settings = loaded.settings
    frozen, unread = await freeze.read(settings.freeze, settings.folder, dict(os.environ), now())
    if unread is not None:
        warning = Finding(f"{unread}: as long as that is so, nothing is started", stops=False)
        found = replace(found, findings=(*found.findings, warning))
    return found, outlook(found, now(), schedule=Schedule(settings.windows, frozen), seen=seen)


def read_manifest(path: Path, loaded: LoadedPlan, limit: tuple[str, ...], digest: str | None) -> Manifest:
    """Read a manifest that is to be run.

    Raises:
        PlanError: It is not the one that was approved, or the plan says something else by now.
    """
    found = manifests.read(path)
    if digest is not None and not (len(digest) >= SHOWN and found.digest.startswith(digest.lower())):
        raise PlanError(
            Problem(
                f"the manifest's digest is {found.digest[:SHOWN]}…, and {digest[:SHOWN]}… was approved",
                hint=f"the digest as `preview --save` printed it, {SHOWN} characters of it at least",
                file=str(path),
            )
        )
    manifests.check(found, loaded.settings, limit)
    return found
