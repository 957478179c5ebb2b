"""Who is meant, with what, and everything against it: against a small cloud of values."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from fleet.core.model import Call, Disk, Identity, Image, KeyPair, Server, ServerId
from fleet.core.settings import (
    CloudSettings,
    Reinstall,
    Rollout,
    SecretRef,
    Select,
    Settings,
    Share,
    Target,
    UserData,
)
from fleet.errors import CloudUnusable, NotFound, PlanError, Problem
from fleet.survey import Survey, opening, resolve_passwords, survey

ME = Identity(user_id="u1", user_name="deploy", project_id="p1", project_name="eu-de", cloud="iam eu-de")


def server(name: str, **fields) -> Server:
    values = {
        "status": "ACTIVE",
        "image": "img",
        "disks": (Disk(f"sys-{name}", system=True), Disk(f"data-{name}", system=False)),
    }
    return Server(id=ServerId(f"id-{name}"), name=name, **(values | fields))


class SmallCloud:
    """Reads only; whatever else is called is an AttributeError, and that is the point."""

    def __init__(self, *servers: Server) -> None:
        self.listed = list(servers)
        self.images = {"img": Image(id="img", name="Debian"), "plain": Image(id="plain", cloud_init=False)}
        self.asked: list[str] = []

    async def whoami(self) -> Identity:
        return ME

    async def servers(self, *_: object, **__: object) -> list[Server]:
        return self.listed

    async def image(self, image: str) -> Image:
        self.asked.append(image)
        if image not in self.images:
            raise NotFound(f"no image {image}")
        return self.images[image]

    async def key_pair(self, name: str) -> KeyPair:
        if name != "kp":
            raise NotFound(f"no key pair {name}")
        return KeyPair(name=name)


def target(name: str = "web", **fields) -> Target:
    values = {
        "select": Select(name=(f"{name}-*",)),
        "reinstall": Reinstall(key_pair="kp"),
        "rollout": Rollout(waves=(1, 2)),
    }
    return Target(name=name, **(values | fields))


def plan(*targets: Target) -> Settings:
    return Settings(
        plan="p", digest="d", folder="/", cloud=CloudSettings(provider="ecs"), targets=targets or (target(),)
    )


def look(cloud: SmallCloud, settings: Settings | None = None, user_data=None, **options) -> Survey:
    return asyncio.run(survey(cloud, settings or plan(), user_data or {}, **options))  # type: ignore[arg-type]


def refusal(found: Survey) -> str:
    with pytest.raises(PlanError) as caught:
        found.refuse()
    return str(caught.value)


def test_members_are_cut_into_waves_in_order_with_their_identity() -> None:
    cloud = SmallCloud(*(server(f"web-{n}", zone="az", tags={"a": "b"}) for n in (10, 2, 1, 3)), server("x"))
    found = look(cloud)
    found.refuse()
    assert [(m.name, m.wave) for m in found.members] == [
        ("web-1", 1),
        ("web-2", 2),
        ("web-3", 2),
        ("web-10", 3),
    ]
    first = found.members[0]
    assert (first.id, first.target, first.call) == ("id-web-1", "web", Call.REINSTALL_CLOUD_INIT)
    assert (first.system_disk, first.data_disks) == ("sys-web-1", ("data-web-1",))
    assert (first.status, first.image, first.zone, first.tags) == ("ACTIVE", "img", "az", {"a": "b"})
    assert set(found.resolution.left_out) == {"id-x"}
    assert found.warnings == ()


def test_an_image_is_asked_for_once_however_many_servers_have_it() -> None:
    cloud = SmallCloud(*(server(f"web-{n}") for n in range(5)), server("web-9", image="plain"))
    found = look(cloud)
    assert sorted(cloud.asked) == ["img", "plain"]
    assert {m.name: m.call for m in found.members}["web-9"] is Call.REINSTALL_PLAIN


def test_waves_are_per_target_and_targets_keep_the_plans_order() -> None:
    cloud = SmallCloud(server("web-1"), server("db-1"), server("db-2"))
    found = look(cloud, plan(target("db"), target("web")))
    assert [(m.target, m.wave) for m in found.members] == [("db", 1), ("db", 2), ("web", 1)]


def test_another_image_decides_the_call() -> None:
    wanted = target(reinstall=Reinstall(key_pair="kp", image="plain"))
    (member,) = look(SmallCloud(server("web-1")), plan(wanted)).members
    assert (member.call, member.image) == (Call.CHANGE_PLAIN, "plain")


def test_everything_against_it_is_said_at_once() -> None:
    cloud = SmallCloud(server("web-1", locked=True), server("web-2", image="gone"))
    found = look(cloud, plan(target(reinstall=Reinstall(key_pair="nobody's"), expect_min=5)))
    text = refusal(found)
    assert "fewer than the 5 expected" in text
    assert 'web: key pair "nobody\'s" does not exist' in text
    assert "web: web-1: it is locked" in text
    assert "web: web-2: its image gone does not exist any more" in text


def test_unfit_servers_are_skipped_on_request_and_stay_members() -> None:
    """They are in the journal as skipped, with the reason: figures add up to what was selected."""
    cloud = SmallCloud(server("web-1"), server("web-2", locked=True, unfit=("it is frozen",)))
    found = look(cloud, skip_unfit=True)
    found.refuse()
    assert found.skipped == {"id-web-2": "unfit: it is frozen; it is locked"}
    assert len(found.members) == 2


def test_nobody_left_is_an_error_also_when_all_are_skipped() -> None:
    found = look(SmallCloud(server("web-1", locked=True)), skip_unfit=True)
    assert "no server is left to reinstall" in refusal(found)


def test_skipping_the_unfit_does_not_forgive_the_plan() -> None:
    """User data for an image without cloud-init is the plan's mistake, not the server's."""
    data = UserData(kind="text", sha256="x", size=1)
    wanted = target(reinstall=Reinstall(key_pair="kp", user_data=data))
    cloud = SmallCloud(server("web-1"), server("web-2", image="plain"))
    assert "carries no cloud-init" in refusal(look(cloud, plan(wanted), {"x": b"1"}, skip_unfit=True))


def test_user_data_is_rendered_for_every_server_before_the_first_is_touched() -> None:
    content = b"{{ server.tags.rack }}"
    digest = hashlib.sha256(content).hexdigest()
    wanted = target(
        reinstall=Reinstall(key_pair="kp", user_data=UserData(kind="template", sha256=digest, size=9))
    )
    cloud = SmallCloud(server("web-1", tags={"rack": "a"}), server("web-2"))
    text = refusal(look(cloud, plan(wanted), {digest: content}))
    assert "web: web-2: the template does not render for web-2" in text
    assert "web-1" not in text


def test_a_limit_narrows() -> None:
    found = look(SmallCloud(server("web-1"), server("web-2")), limit=("web-2",))
    assert [m.name for m in found.members] == ["web-2"]
    assert "matches none" in refusal(look(SmallCloud(server("web-1")), limit=("db-*",)))


def test_a_share_that_allows_nothing_is_refused() -> None:
    wanted = target(rollout=Rollout(hold_after=Share(percent=10.0)))
    assert "rounds to nothing" in refusal(look(SmallCloud(server("web-1")), plan(wanted)))


def test_a_problem_is_given_its_place() -> None:
    found = look(SmallCloud(server("db-1")))
    with pytest.raises(PlanError) as caught:
        found.refuse(lambda problem: Problem(problem.message, file="plan.yaml", line=7))
    assert str(caught.value).startswith("plan.yaml:7: target web matches no server")


PASSWORD = target(reinstall=Reinstall(admin_password=SecretRef(env="FLEET_TEST_PW")))


def test_a_password_is_fetched_and_held_against_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = SmallCloud(server("web-1"))
    assert "environment variable FLEET_TEST_PW is not set" in refusal(look(cloud, plan(PASSWORD)))
    monkeypatch.setenv("FLEET_TEST_PW", "feeble-pass")
    text = refusal(look(cloud, plan(PASSWORD)))
    assert "breaks the cloud's rules" in text
    assert "feeble" not in text
    monkeypatch.setenv("FLEET_TEST_PW", "Strong-pass-1")
    found = look(cloud, plan(PASSWORD))
    found.refuse()
    assert found.passwords == {"web": "Strong-pass-1"}
    assert "Strong-pass-1" not in repr(found)
    assert resolve_passwords(plan(PASSWORD, target("db"))) == {"web": "Strong-pass-1"}


def test_a_cloud_that_cannot_be_used_is_no_finding() -> None:
    class Shut(SmallCloud):
        async def whoami(self) -> Identity:
            raise CloudUnusable("wrong password")

    with pytest.raises(CloudUnusable):
        look(Shut(server("web-1")))


def test_the_opening_says_who_where_and_by_whom() -> None:
    found = look(SmallCloud(server("web-1")))
    opened = opening(found, run="p-1", plan_path=Path("/plans/p.yaml"), limit=("web-1",))
    assert (opened.run, opened.cloud, opened.project, opened.user) == ("p-1", "iam eu-de", "p1", "deploy")
    assert (opened.plan_path, opened.limit, opened.members) == ("/plans/p.yaml", ("web-1",), found.members)
    assert opened.pid > 0
    assert opened.host
