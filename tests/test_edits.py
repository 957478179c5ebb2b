"""What an edited plan may change in a run that is under way, field by field."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fleet.core.edits import edits
from fleet.core.settings import (
    Backup,
    Budget,
    CloudSettings,
    CommandCheck,
    Hooks,
    HttpCheck,
    Limits,
    NeverMoreThan,
    Reinstall,
    Rollout,
    SecretRef,
    Select,
    Settings,
    Share,
    Stop,
    Target,
    TcpCheck,
    UserData,
    Verify,
)
from fleet.plan import load_plan

replace = msgspec.structs.replace
WEB = Target(
    name="web",
    select=Select(name=("web-*",)),
    reinstall=Reinstall(
        key_pair="kp", user_data=UserData(kind="file", sha256="a1", size=3, path="/old/web.yaml")
    ),
)
DB = Target(name="db", select=Select(ids=("d1",)), reinstall=Reinstall(admin_password=SecretRef(env="DB_PW")))
PLAN = Settings(
    plan="p", digest="1", folder="/a", cloud=CloudSettings(provider="ecs", region="eu-de"), targets=(WEB, DB)
)


def with_web(**fields) -> Settings:
    return replace(PLAN, targets=(replace(WEB, **fields), DB))


def with_reinstall(**fields) -> Settings:
    return with_web(reinstall=replace(WEB.reinstall, **fields))


PACING = [
    (with_web(rollout=Rollout(concurrency=3)), "targets.web.rollout.concurrency: 10 → 3"),
    (with_web(rollout=Rollout(hold_after=4)), "targets.web.rollout.hold_after: 0 → 4"),
    (with_web(stop=Stop(soft_timeout_s=60)), "targets.web.stop.soft_timeout_s: 300 → 60"),
    (with_web(stop=Stop(then="fail")), "targets.web.stop.then: hard → fail"),
    (with_web(verify=Verify(timeout_s=60)), "targets.web.verify.timeout_s: 900 → 60"),
    (with_web(verify=Verify(stable_for_s=9)), "targets.web.verify.stable_for_s: 0 → 9"),
    (
        with_web(verify=Verify(checks=(TcpCheck(port=22), HttpCheck(url="http://x/", status=204)))),
        (
            "targets.web.verify.checks: nothing → type tcp port 22, "
            "type http url http://x/ status 204 body nothing tls True"
        ),
    ),
    (
        with_web(verify=Verify(checks=(CommandCheck(argv=("/bin/check", "{server.name}")),))),
        "targets.web.verify.checks: nothing → type command argv /bin/check {server.name} timeout_s 60",
    ),
    (with_web(rollout=Rollout(in_a_row=2)), "targets.web.rollout.in_a_row: nothing → 2"),
    (with_web(rollout=Rollout(max_unavailable=2)), "targets.web.rollout.max_unavailable: nothing → 2"),
    (with_web(rollout=Rollout(spread={"flavor": 2})), "targets.web.rollout.spread.flavor: nothing → 2"),
    (with_web(rollout=Rollout(bake_s=60)), "targets.web.rollout.bake_s: 0 → 60"),
    (with_web(rollout=Rollout(approve_after=(1,))), "targets.web.rollout.approve_after: nothing → 1"),
    (with_web(needs=("db",)), "targets.web.needs: nothing → db"),
    (with_web(hooks=Hooks(timeout_s=9)), "targets.web.hooks.timeout_s: 300 → 9"),
    (replace(PLAN, concurrency=3), "concurrency: nothing → 3"),
    (replace(PLAN, limits=Limits(draining=3)), "limits.draining: nothing → 3"),
    (replace(PLAN, budget=Budget(in_a_row=3)), "budget.in_a_row: nothing → 3"),
    (replace(PLAN, claim=True), "claim: False → True"),
    (with_reinstall(timeout_s=60), "targets.web.reinstall.timeout_s: 2700 → 60"),
    (with_reinstall(attempts=1), "targets.web.reinstall.attempts: 2 → 1"),
    (with_reinstall(settle_s=60), "targets.web.reinstall.settle_s: 300 → 60"),
    (
        replace(PLAN, cloud=replace(PLAN.cloud, requests_per_second=3.0)),
        "cloud.requests_per_second: 10 → 3",
    ),
]


@pytest.mark.parametrize(("edited", "words"), PACING)
def test_pacing_may_change(edited: Settings, words: str) -> None:
    assert edits(PLAN, edited) == ([], [words])


def test_a_count_may_become_a_share() -> None:
    fixed, pacing = edits(PLAN, with_web(rollout=Rollout(hold_after=Share(percent=10.0))))
    assert not fixed
    assert pacing == [
        "targets.web.rollout.hold_after: 0 → nothing",
        "targets.web.rollout.hold_after.percent: nothing → 10",
    ]


SELECTS = [
    Select(ids=("x",)),
    Select(name=("app-*",)),
    Select(name=("web-*",), name_regex=("x",)),
    Select(name=("web-*",), tags={"role": ("web",)}),
    Select(name=("web-*",), tags={"role": ()}),
    Select(name=("web-*",), zone=("z",)),
    Select(name=("web-*",), status=("ACTIVE",)),
    Select(name=("web-*",), flavor=("f",)),
    Select(name=("web-*",), image=("i",)),
    Select(name=("web-*",), vpc=("v",)),
    Select(name=("web-*",), enterprise_project=("0",)),
    Select(name=("web-*",), ip=("10.0.0.0/8",)),
    Select(name=("web-*",), hosts={"web-1": "web-1"}),
    Select(name=("web-*",), older_than_s=90.0),
]
FIXED = [
    *(with_web(select=select) for select in SELECTS),
    with_web(exclude=Select(name=("web-9",))),
    with_web(expect_min=1),
    with_web(expect_max=9),
    with_web(rollout=Rollout(waves=(1, 2))),
    with_web(rollout=Rollout(order=("id",))),
    with_web(leave="running"),
    with_reinstall(preserve_ephemeral=True),
    with_reinstall(key_pair="other"),
    with_reinstall(key_pair=None, admin_password=SecretRef(env="PW")),
    with_reinstall(user_id="u"),
    with_reinstall(user_data=None),
    with_reinstall(user_data=UserData(kind="file", sha256="b2", size=3, path="/old/web.yaml")),
    with_reinstall(user_data=UserData(kind="template", sha256="a1", size=3, path="/old/web.yaml")),
    with_reinstall(byol=True),
    with_reinstall(mode="with-stop-server"),
    with_reinstall(cloud_init=False),
    with_reinstall(image="img"),
    replace(PLAN, plan="q"),
    replace(PLAN, protect=Select(ids=("x",))),
    replace(PLAN, targets=(WEB,)),
    replace(PLAN, targets=(DB, WEB)),
    replace(PLAN, targets=(WEB, DB, Target(name="new", select=Select(ids=("n",))))),
    replace(PLAN, targets=(replace(WEB, name="www"), DB)),
    replace(PLAN, cloud=replace(PLAN.cloud, provider="openstack")),
    replace(PLAN, cloud=replace(PLAN.cloud, profile="p")),
    replace(PLAN, cloud=replace(PLAN.cloud, region="eu-nl")),
    replace(PLAN, cloud=replace(PLAN.cloud, endpoints={"ecs": "https://x"})),
]


@pytest.mark.parametrize("edited", FIXED)
def test_who_and_with_what_may_not_change(edited: Settings) -> None:
    assert edits(PLAN, edited)[0]
    assert edits(edited, PLAN)[0], "nor may it be taken back"


def test_every_field_of_the_settings_is_in_one_of_the_two_lists() -> None:
    """A new field of the settings is fixed until somebody says that it is pacing, here and there."""
    several = [
        with_web(rollout=Rollout(never_more_than=NeverMoreThan(at_least=1, of_verified=5))),
        with_web(require_backup=Backup(younger_than_s=9)),
    ]
    assert all(edits(PLAN, edited)[1] and not edits(PLAN, edited)[0] for edited in several)
    edited_plans = [*(plan for plan, _ in PACING), *several, *FIXED]
    changed = {path for edited in edited_plans for path in _paths(PLAN, edited)}
    leaves = {
        *(f"targets.select.{name}" for name in Select.__struct_fields__),
        *(f"targets.reinstall.{name}" for name in Reinstall.__struct_fields__),
        *(f"targets.stop.{name}" for name in Stop.__struct_fields__),
        *(f"targets.verify.{name}" for name in Verify.__struct_fields__),
        *(f"targets.rollout.{name}" for name in Rollout.__struct_fields__),
        *(
            f"targets.{name}"
            for name in Target.__struct_fields__
            if name not in {"select", "reinstall", "stop", "verify", "rollout"}
        ),
        *(f"cloud.{name}" for name in CloudSettings.__struct_fields__),
        "plan",
        "protect",
    }
    assert changed == leaves


def _paths(old: Settings, new: Settings) -> set[str]:
    """Return the fields in which two plans differ, two levels below a target at most."""
    found: set[str] = set()
    for name in ("plan", "protect"):
        if getattr(old, name) != getattr(new, name):
            found.add(name)
    for name in CloudSettings.__struct_fields__:
        if getattr(old.cloud, name) != getattr(new.cloud, name):
            found.add(f"cloud.{name}")
    for one, other in zip(old.targets, new.targets, strict=False):
        for name in Target.__struct_fields__:
            before, after = getattr(one, name), getattr(other, name)
            if before == after:
                continue
            if name in {"select", "reinstall", "stop", "verify", "rollout"}:
                found |= {
                    f"targets.{name}.{each}"
                    for each in before.__struct_fields__
                    if getattr(before, each) != getattr(after, each)
                }
            else:
                found.add(f"targets.{name}")
    return found


def test_the_same_plan_is_no_edit_wherever_it_lies() -> None:
    """Another folder, another digest (a comment was added), the same user data at another path."""
    moved = replace(
        with_reinstall(user_data=UserData(kind="file", sha256="a1", size=3, path="/new/web.yaml")),
        digest="2",
        folder="/b",
    )
    assert edits(PLAN, moved) == ([], [])


def test_a_secret_is_shown_by_where_it_comes_from() -> None:
    moved = replace(
        PLAN,
        targets=(WEB, replace(DB, reinstall=Reinstall(admin_password=SecretRef(file="/run/secrets/db")))),
    )
    fixed, pacing = edits(PLAN, moved)
    assert fixed == [
        "targets.db.reinstall.admin_password.env: DB_PW → nothing",
        "targets.db.reinstall.admin_password.file: nothing → /run/secrets/db",
    ]
    assert not pacing


def test_a_target_that_disappears_is_refused_by_name() -> None:
    fixed, _ = edits(PLAN, replace(PLAN, targets=(WEB,)))
    assert "order of targets: web, db → web" in fixed
    assert any(line.startswith("targets.db.select.ids: d1 → nothing") for line in fixed)


@pytest.mark.parametrize("text", ["", "waves: [1, 50%]", "waves: [33.3%], max_failures: 10%, concurrency: 3"])
def test_a_plan_is_no_edit_of_itself(tmp_path: Path, text: str) -> None:
    """What comes back from the journal equals what is read from the file: 25 and 25.0 are one share."""
    path = tmp_path / "p.yaml"
    rollout = f"rollout: {{{text}}}\n" if text else ""
    path.write_text("select: {tags: {role: web}}\nkey_pair: k\ncloud: {provider: simulator}\n" + rollout)
    fresh = load_plan(path).settings
    kept = msgspec.json.decode(msgspec.json.encode(fresh), type=Settings)
    assert edits(kept, fresh) == ([], [])


@pytest.mark.parametrize("name", ["minimal", "web-tier", "cron", "demo"])
def test_an_example_plan_is_no_edit_of_itself(name: str) -> None:
    fresh = load_plan(Path(__file__).parents[1] / "plans" / f"{name}.yaml").settings
    kept = msgspec.json.decode(msgspec.json.encode(fresh), type=Settings)
    assert edits(kept, fresh) == ([], [])
