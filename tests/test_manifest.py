"""A manifest against a small cloud of values: what it pins, and what it notices."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support import AT
from test_survey import SmallCloud, plan, server, target

from fleet import manifest as manifests
from fleet.core.model import Server
from fleet.core.settings import COVER, SHUFFLE, Reinstall, Rollout, UserData
from fleet.errors import PlanError
from fleet.survey import NO_PIN, Pin, Survey, survey

WEB = [server("web-1"), server("web-2", flavor="c4"), server("web-3")]


def look(servers: list[Server], settings=None, pin: Pin = NO_PIN, **options) -> Survey:
    user_data = options.pop("user_data", {})
    return asyncio.run(
        survey(SmallCloud(*servers), settings or plan(), user_data, pin=pin, now=AT, **options)  # type: ignore[arg-type]
    )


def made(found: Survey) -> manifests.Manifest:
    return manifests.make(found, limit=(), worst={}, forecast={}, now=AT)


def again(manifest: manifests.Manifest, servers: list[Server], settings=None, **options) -> Survey:
    found = look(servers, settings, manifest.pin, skip_unfit=True, **options)
    return manifests.pinned(found, manifest)


def test_nothing_has_changed() -> None:
    manifest = made(look(WEB))
    found = again(manifest, WEB)
    assert (found.skipped, found.differences, found.manifest) == ({}, (), manifest.digest)
    assert found.members == look(WEB).members


def test_a_selector_that_has_grown_does_those_that_were_approved() -> None:
    settings = plan(target(expect_max=5))
    manifest = made(look(WEB, settings))
    grown = [*WEB, *(server(f"web-stage-{n}") for n in range(200))]
    assert look(grown, settings).resolution.problems, "without the manifest it is an error"
    found = again(manifest, grown, settings)
    found.refuse()
    assert [member.name for member in found.started] == ["web-1", "web-2", "web-3"]
    assert found.differences[0].startswith(
        "200 selected now are not in the manifest, and not done: web-stage-"
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (server("web-2", flavor="m6"), "flavor c4 → m6"),
        (server("web-2", flavor="c4", locked=True), "locked"),
        (server("web-2", flavor="c4", tags={"env": "prod"}), "tags none → env=prod"),
        (server("web-2", flavor="c4", disks=()), "system disk sys-web-2 → none"),
        (None, "the cloud shows it no more"),
    ],
)
def test_a_changed_server_is_shown_and_not_done(changed: Server | None, words: str) -> None:
    manifest = made(look(WEB))
    found = again(manifest, [WEB[0], *([changed] if changed else []), WEB[2]])
    assert [member.name for member in found.started] == ["web-1", "web-3"]
    [difference] = found.differences
    assert words in difference
    assert found.members[1].wave == 2, "the waves are the manifest's"


def test_a_server_that_was_turned_off_is_still_the_same() -> None:
    manifest = made(look(WEB))
    found = again(manifest, [msgspec.structs.replace(WEB[0], status="SHUTOFF"), *WEB[1:]])
    assert found.differences == ()
    assert found.members[0].status == "SHUTOFF"


def test_what_a_template_sends_is_part_of_it() -> None:
    source = b"#cloud-config\nhostname: {{ server.name }}-{{ server.zone }}\n"
    data = UserData(kind="template", sha256="x", size=len(source), path="/t")
    settings = plan(target(reinstall=Reinstall(key_pair="kp", user_data=data)))
    found = look(WEB, settings, user_data={"x": source})
    manifest = made(found)
    assert len({entry.user_data for entry in manifest.servers}) == 3
    assert len({kind.user_data for kind in found.kinds.values()}) == 1, "but for their names it is one kind"


def test_a_shuffled_order_is_kept() -> None:
    many = [server(f"web-{n}", flavor=("s3", "c4")[n % 2]) for n in range(12)]
    settings = plan(target(rollout=Rollout(waves=(COVER, 3), order=(SHUFFLE,))))
    manifest = made(look(many, settings, Pin(seed=99)))
    assert manifest.seed == 99
    found = again(manifest, many, settings)
    assert [member.id for member in found.members] == [entry.server.id for entry in manifest.servers]
    assert [member.wave for member in found.members][:3] == [1, 1, 2]


def test_another_folder_is_the_same_plan() -> None:
    """Approved on a laptop, run on a bastion."""
    data = UserData(kind="file", sha256="x", size=1, path="/home/me/plans/web.yaml")
    here = plan(target(reinstall=Reinstall(key_pair="kp", user_data=data)))
    here = msgspec.structs.replace(here, folder="/home/me/plans")
    there = msgspec.json.encode(here).replace(b"/home/me/plans", b"/srv/plans")
    moved = msgspec.json.decode(there, type=type(here))
    assert moved != here
    assert manifests.parameters(moved) == manifests.parameters(here)


def test_another_cloud_is_refused() -> None:
    manifest = made(look(WEB))
    found = look(WEB, pin=manifest.pin)
    elsewhere = replace(found, identity=msgspec.structs.replace(found.identity, project_id="p2"))
    with pytest.raises(PlanError, match="the manifest is of iam eu-de"):
        manifests.pinned(elsewhere, manifest)


def test_it_is_written_whole_and_read_back(tmp_path: Path) -> None:
    manifest = made(look(WEB))
    path = tmp_path / "m.json"
    manifests.write(manifest, path)
    assert manifests.read(path) == manifest
    assert [each.name for each in tmp_path.iterdir()] == ["m.json"]
    path.write_bytes(path.read_bytes().replace(b'"web-3"', b'"web-9"'))
    with pytest.raises(PlanError, match="changed after it was made"):
        manifests.read(path)
    with pytest.raises(PlanError, match="cannot be written"):
        manifests.write(manifest, tmp_path / "no" / "m.json")
