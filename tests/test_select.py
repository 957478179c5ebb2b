"""Who is selected, who is not and why, and what a plan is refused for once the cloud is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleet.core.facts import facts, fill, placeholders
from fleet.core.model import Server, ServerId
from fleet.core.select import is_protected, matches, removed_by, resolve
from fleet.core.settings import CloudSettings, Rollout, Select, Settings, Share, Target


def server(name: str, id_: str = "", **fields) -> Server:
    return Server(id=ServerId(id_ or f"id-{name}"), name=name, **fields)


def plan(*targets: Target, protect: Select | None = None) -> Settings:
    return Settings(
        plan="p", digest="", folder="/", cloud=CloudSettings(provider="ecs"), targets=targets, protect=protect
    )


def target(name: str = "web", glob: str = "web-*", **fields) -> Target:
    return Target(name=name, select=fields.pop("select", Select(name=(glob,))), **fields)


def names(resolution, of: str = "web") -> list[str]:
    return [one.name for one in resolution.chosen[of]]


WEB = server(
    "web-1",
    "a1",
    status="ACTIVE",
    zone="eu-de-01",
    flavor="s3.large",
    image="img",
    vpcs=("v1", "v2"),
    addresses=("10.0.3.17", "fd00::1"),
    public_addresses=("80.1.2.3",),
    tags={"role": "web", "env": "prod", "flag": ""},
    enterprise_project="0",
)


@pytest.mark.parametrize(
    ("select", "reason"),
    [
        (Select(), "the selector is empty"),
        (Select(ids=("a1", "a2")), None),
        (Select(ids=("web-1",)), "its id is not listed"),
        (Select(name=("web-*",)), None),
        (Select(name=("WEB-*",)), "name is not WEB-*"),
        (Select(name=("eb-1",)), "name is not eb-1"),
        (Select(name=("db-*", "app-?")), "name is none of db-*, app-?"),
        (Select(name=("db-*",), name_regex=(r"web-\d",)), None),
        (Select(name_regex=("web",)), "name is not /web/"),
        (Select(tags={"role": ("web",), "env": ("prod", "stage")}), None),
        (Select(tags={"flag": ()}), None),
        (Select(tags={"role": ("db",)}), "tag role=web is not db"),
        (Select(tags={"env": ("stage", "dev")}), "tag env=prod is none of stage, dev"),
        (Select(tags={"owner": ()}), "no tag owner"),
        (Select(zone=("eu-de-01", "eu-de-02")), None),
        (Select(zone=("eu-de-02",)), "zone eu-de-01 is not eu-de-02"),
        (Select(status=("SHUTOFF",)), "status ACTIVE is not SHUTOFF"),
        (Select(flavor=("s3.medium", "c1")), "flavor s3.large is none of s3.medium, c1"),
        (Select(image=("img",)), None),
        (Select(vpc=("v2",)), None),
        (Select(vpc=("v3",)), "vpc v1, v2 is not v3"),
        (Select(ip=("10.0.0.0/8",)), None),
        (Select(ip=("80.1.2.3",)), None),
        (Select(ip=("fd00::/8",)), None),
        (Select(ip=("10.1.0.0/16", "192.0.2.1")), "no address in 10.1.0.0/16, 192.0.2.1"),
        (Select(enterprise_project=("0",)), None),
        (Select(name=("web-*",), tags={"role": ("db",)}), "tag role=web is not db"),
    ],
)
def test_matches(select, reason):
    """Every given field must match; a list means any of; the reason is the first that does not."""
    assert matches(select, WEB) == reason


@pytest.mark.parametrize(
    ("select", "hit"),
    [
        (Select(), None),
        (Select(ids=("x",), tags={"role": ("web",)}), "tag role=web"),
        (Select(name=("db-*",), tags={"tier": ("control",), "flag": ()}), "tag flag"),
        (Select(name=("web-*",)), "name web-1 matches"),
        (Select(ids=("x",), tags={"role": ("db",)}), None),
    ],
)
def test_one_condition_takes_away(select, hit):
    """What takes away is read the cautious way round: one condition is enough."""
    assert removed_by(select, WEB) == hit
    assert is_protected(plan(target(), protect=select), WEB) == hit


def test_natural_order():
    """Numbers count; the id decides between equal names; untagged servers come last."""
    servers = [
        server("web-10"),
        server("web-2", "b"),
        server("web-2", "a"),
        server("web-1"),
        server("web-02"),
    ]
    found = resolve(plan(target()), servers).chosen["web"]
    assert [one.name for one in found] == ["web-1", "web-02", "web-2", "web-2", "web-10"]
    assert [one.id for one in found[2:4]] == ["a", "b"]

    by_rack = target(rollout=Rollout(order=("tag:rack", "availability_zone", "name")))
    servers = [
        server("web-1", zone="b"),
        server("web-2", tags={"rack": "r10"}, zone="a"),
        server("web-3", tags={"rack": "r9"}, zone="b"),
        server("web-4", tags={"rack": "r9"}, zone="a"),
    ]
    assert names(resolve(plan(by_rack), servers)) == ["web-4", "web-3", "web-2", "web-1"]


def test_everybody_left_out_has_a_reason():
    servers = [
        server("web-1"),
        server("web-2", tags={"tier": "control"}),
        server("web-3", tags={"reinstall": "never"}),
        server("web-4", bare_metal=True),
        server("db-1"),
    ]
    found = resolve(
        plan(
            target(exclude=Select(tags={"reinstall": ("never",)})),
            protect=Select(tags={"tier": ("control",)}),
        ),
        servers,
    )
    assert names(found) == ["web-1"]
    assert found.left_out == {
        "id-web-2": "protected: tag tier=control",
        "id-web-3": "excluded: tag reinstall=never",
        "id-web-4": "a bare-metal server: its disks are reinstalled by another service",
        "id-db-1": "name is not web-*",
    }
    assert not found.problems


def test_reason_for_several_targets():
    found = resolve(
        plan(target("a", "a-*"), target("b", "b-*")), [server("a-1"), server("b-1"), server("c-1")]
    )
    assert found.left_out == {"id-c-1": "no target matches (a: name is not a-*; b: name is not b-*)"}


def test_same_name_twice_is_two_servers():
    found = resolve(plan(target(select=Select(ids=("x",)))), [server("web-1", "x"), server("web-1", "y")])
    assert [one.id for one in found.chosen["web"]] == ["x"]
    assert found.left_out == {"y": "its id is not listed"}


@pytest.mark.parametrize(
    ("settings", "path", "said"),
    [
        (plan(target(glob="no-*")), "targets[0].select", "target web matches no server"),
        (plan(target(select=Select())), "targets[0].select", "never means every server"),
        (plan(target(expect_min=4)), "targets[0].expect", "3 servers, fewer than the 4 expected"),
        (plan(target(expect_max=2)), "targets[0].expect", "3 servers, more than the 2 expected"),
        (plan(target(), target("x", "*-3")), "targets", "web and x both want web-3 (id-web-3)"),
        (
            plan(target(select=Select(ids=("id-web-1", "gone")))),
            "targets[0].select.ids",
            "no server with the id gone",
        ),
        (
            plan(target(rollout=Rollout(hold_after=Share(percent=33)))),
            "targets[0].rollout.max_failures",
            "rounds to nothing: 33% of 3 servers",
        ),
    ],
)
def test_refused(settings, path, said):
    found = resolve(settings, [server(f"web-{number}") for number in (1, 2, 3)])
    assert [problem.path for problem in found.problems] == [path]
    assert said in found.problems[0].message
    assert found.problems[0].hint


def test_share_that_is_one_server():
    """A third of three, as a percentage with rounding, and a plain 10% of 10."""
    settings = plan(target(rollout=Rollout(hold_after=Share(percent=10))))
    assert not resolve(settings, [server(f"web-{number}") for number in range(10)]).problems
    assert resolve(settings, [server(f"web-{number}") for number in range(9)]).problems


def test_unknown_protected_id_is_a_warning():
    """A server that is gone need not be protected; a mistyped id should be seen."""
    found = resolve(plan(target(), protect=Select(ids=("gone",))), [server("web-1")])
    assert not found.problems
    assert [problem.path for problem in found.warnings] == ["protect.ids"]


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        ((), ["web-1", "web-2", "web-3"]),
        (("web-2",), ["web-2"]),
        (("web-[12]",), ["web-1", "web-2"]),
        (("id-web-3", "web-1"), ["web-1", "web-3"]),
        (("!web-1",), ["web-2", "web-3"]),
        (("web-*", "!id-web-3"), ["web-1", "web-2"]),
    ],
)
def test_limit(limit, left):
    """It narrows what the plan selects, after the expectation was checked."""
    servers = [server(f"web-{number}") for number in (1, 2, 3)]
    found = resolve(plan(target(expect_min=3)), servers, limit=limit)
    assert not found.problems
    assert names(found) == left
    assert set(found.left_out.values()) <= {"left out by --limit"}
    assert len(found.left_out) + len(left) == 3


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (("db-1",), "--limit db-1 matches none"),
        (("web-1", "wbe-2"), "--limit wbe-2 matches none"),
        (("!wbe-1",), "--limit !wbe-1 matches none"),
        (("web-1", "!web-1"), "leaves no server"),
    ],
)
def test_limit_that_misses(limit, said):
    """A typo must not pass: neither in what to do, nor, worse, in what to spare."""
    found = resolve(plan(target()), [server("web-1"), server("web-2"), server("db-1")], limit=limit)
    assert any(said in problem.message for problem in found.problems)


def test_facts():
    assert facts(WEB) == {
        "id": "a1",
        "name": "web-1",
        "private_ip": "10.0.3.17",
        "public_ip": "80.1.2.3",
        "zone": "eu-de-01",
        "flavor": "s3.large",
        "image": "img",
    }
    assert placeholders("{server.name} {x} {server.__class__}") == ["name", "__class__"]
    assert fill("http://{server.private_ip}:80/{server.name}?{x}", WEB) == "http://10.0.3.17:80/web-1?{x}"


def test_facts_that_are_missing():
    with pytest.raises(ValueError, match="no public ip"):
        fill("{server.public_ip}", server("web-1"))
    with pytest.raises(ValueError, match="not known"):
        fill("{server.__class__}", WEB)


def test_address_of_version_6_in_a_url():
    six = server("web-1", addresses=("fd00::1",))
    assert fill("http://{server.private_ip}:80/", six) == "http://[fd00::1]:80/"
    assert fill("http://[{server.private_ip}]:80/", six) == "http://[fd00::1]:80/"
    assert fill("{server.private_ip}", six) == "fd00::1"


# Inventories and ages ---------------------------------------------------------------------------------

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OLD = Select(older_than_s=90 * 86400.0)
BY_AGE = [
    server("web-old", created="2026-01-01T00:00:00Z"),
    server("web-young", created="2026-05-01T00:00:00Z"),
    server("web-unknown"),
]


def test_hosts_are_matched_by_name_and_by_address():
    hosts = {"web-1": "web-1", "second": "10.0.0.2", "third": "fd00::3"}
    shown = [
        server("web-1"),
        server("web-2", addresses=("10.0.0.2",)),
        server("web-3", public_addresses=("FD00:0::3",)),
        server("web-4", addresses=("10.0.0.4",)),
    ]
    found = resolve(plan(target(select=Select(hosts=hosts))), shown)
    assert names(found) == ["web-1", "web-2", "web-3"]
    assert found.left_out == {"id-web-4": "the inventory does not list it"}
    assert not found.problems
    assert not found.warnings


def test_a_host_that_is_nobody_is_said_and_stops_nothing():
    gone = Select(hosts={"web-1": "web-1", "gone": "10.9.9.9"})
    found = resolve(plan(target(select=gone), protect=Select(hosts={"who": "who"})), [server("web-1")])
    assert not found.problems
    assert [(each.path, each.message) for each in found.warnings] == [
        (
            "targets[0].select.inventory",
            "the cloud shows no server for gone of the inventory, by name or address",
        ),
        ("protect.inventory", "the cloud shows no server for who of the inventory, by name or address"),
    ]


def test_a_host_that_may_be_two_servers_stops_unless_the_selector_says_which():
    twins = [server("web-1", "a", vpcs=("v1",)), server("web-1", "b", vpcs=("v2",))]
    by_name = Select(hosts={"web-1": "web-1"})
    [problem] = resolve(plan(target(select=by_name)), twins).problems
    assert "web-1 (a), web-1 (b)" in problem.message
    one = resolve(plan(target(select=Select(hosts=by_name.hosts, vpc=("v2",)))), twins)
    assert [each.id for each in one.chosen["web"]] == ["b"]
    assert not one.problems
    both_away = resolve(plan(target(exclude=by_name)), [*twins, server("web-2")])
    assert names(both_away) == ["web-2"]
    assert not both_away.problems
    assert len(both_away.warnings) == 1


def test_only_old_servers_are_selected_and_unknown_ages_never():
    found = resolve(plan(target(select=OLD)), BY_AGE, now=NOW)
    assert names(found) == ["web-old"]
    assert found.left_out["id-web-young"] == "created 31 days ago: not 90 days old"
    assert "does not say when it was created" in found.left_out["id-web-unknown"]


@pytest.mark.parametrize(("part", "word"), [("exclude", "excluded"), ("protect", "protected")])
def test_what_may_be_old_is_taken_away(part, word):
    settings = plan(target(exclude=OLD)) if part == "exclude" else plan(target(), protect=OLD)
    found = resolve(settings, BY_AGE, now=NOW)
    assert names(found) == ["web-young"]
    assert found.left_out["id-web-old"] == f"{word}: created 2026-01-01T00:00:00Z"
    assert found.left_out["id-web-unknown"].startswith(f"{word}: the cloud does not say")


def test_ages_are_not_judged_again_without_a_time_and_never_resolved_without():
    """Right before the wipe nobody's age is asked: it was judged when the run was opened."""
    assert matches(OLD, BY_AGE[1]) is None
    assert removed_by(OLD, BY_AGE[0]) is None
    with pytest.raises(ValueError, match="what time it is"):
        resolve(plan(target(select=OLD)), BY_AGE)
