"""The fleet file: good defaults, strict checks, errors that name the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.fleetfile import build_world, default_fleet, parse_fleet, read_fleet
from fleet.errors import PlanError


def test_an_empty_file_is_the_demo() -> None:
    world = build_world(parse_fleet(""))
    names = [server.name for server in world.servers.values()]
    assert len(names) == 71
    assert (names[0], names[59], names[60], names[66], names[70]) == (
        "web-001",
        "web-060",
        "db-01",
        "control-1",
        "bastion",
    )
    assert [server.name for server in world.servers.values() if server.locked] == ["control-1", "control-2"]
    assert world.named("web-001").tags == ["role=web", "env=prod"]
    assert "reinstall=never" in world.named("bastion").tags
    assert {server.spec.zone for server in world.servers.values()} == set(defaults.ZONES)
    assert world.named("web-001").address == "10.20.1.4"
    assert len(world.named("db-01").disks) == 3
    assert (defaults.USER_ID, defaults.KEY_PAIR) in world.key_pairs
    assert len({server.address for server in world.servers.values()}) == 71


def test_a_fleet_of_any_size() -> None:
    world = build_world(default_fleet(count=1200))
    names = [server.name for server in world.servers.values()]
    assert (len(names), names[0], names[-1]) == (1200, "web-0001", "web-1200")


WHOLE = """
seed: 9
speed: 20
throttle: true
rate_limit: 50
durations: {reinstall: {median_s: 60, sigma: 0.1}}
behaviour: {profile: B, ends_shutoff: 0.1}
project: {name: eu-de}
users:
  - {name: fleet, password: simulator}
  - {name: guest, password: pw, denied: ["ecs:cloudServers:rebuild"]}
key_pairs: [{name: demo-key}, {name: guests, owner: guest}]
images: [{name: Debian, id: img-1}, {name: Old, id: img-2, cloud_init: false}]
servers:
  - name: a-{}
    count: 3
    tags: {role: a, flag: ""}
    zones: [z1, z2]
    image: Old
    subnet: 10.9.0.0/28
    locked: 1
  - {name: b, image: Debian, status: SHUTOFF, data_disks: 2, profile: A}
faults:
  - {kind: answer-lost, when: {call: reinstall, server: a-1}}
  - {kind: error-burst, status: 429, when: {call: [list, show], for_s: 30}}
"""


def test_everything_can_be_said() -> None:
    fleet = parse_fleet(WHOLE)
    world = build_world(fleet)
    assert [server.name for server in world.servers.values()] == ["a-1", "a-2", "a-3", "b"]
    first, other = world.named("a-1"), world.named("b")
    assert (first.image, first.address, first.locked, first.profile) == ("img-2", "10.9.0.4", True, "B")
    assert first.tags == ["role=a", "flag"]
    assert (other.profile, len(other.disks), other.show.value[0]) == ("A", 3, "SHUTOFF")
    assert (world.behaviour.throttle, world.behaviour.rate_limit) == (True, 50)
    assert fleet.faults[1].calls == ("list", "show")
    assert fleet.durations.reinstall.median_s == 60


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("server: []", "", "unknown field `server`"),
        ("servers: [{name: a, cuont: 3}]", "servers[0]", "unknown field `cuont`"),
        ("servers: [{name: a, count: 0}]", "servers[0].count", ">= 1"),
        ("servers: [{name: a, count: 2}]", "servers[0].name", "would all be named 'a'"),
        ("servers: [{name: 'a-{:q}'}]", "servers[0].name", "is no pattern"),
        ("servers: [{name: 'a-{}', count: 300, subnet: 10.0.0.0/24}]", "servers[0].subnet", "no room"),
        ("servers: [{name: a, subnet: here}]", "servers[0].subnet", "here"),
        ("servers: [{name: a, image: BeOS}]", "servers[0].image", "there is no 'BeOS'"),
        ("servers: [{name: a, locked: 2}]", "servers[0].locked", "2 of 1"),
        ("servers: [{name: a, zones: []}]", "servers[0].zones", "length >= 1"),
        ("key_pairs: [{name: k, owner: nobody}]", "key_pairs[0].owner", "there is no 'nobody'"),
        (f"users: [{{name: fleet}}, {{name: x, id: {defaults.USER_ID}}}]", "users[].id", "twice"),
        ("speed: 0", "speed", "> 0.0"),
        ("faults: [{kind: gremlins}]", "faults[0].kind", "gremlins"),
        ("faults: [{kind: slow, when: {call: fly}}]", "faults[0].when.call", "fly"),
        ("- a", "", "Expected `object`, got `array`"),
    ],
)
def test_errors_name_the_place(text: str, place: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_fleet(text, name="fleet.yaml")
    (problem,) = caught.value.problems
    assert problem.file == "fleet.yaml"
    assert problem.path.startswith(place)
    assert said in str(problem)


def test_broken_yaml_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        parse_fleet("seed: 1\nservers: [", name="fleet.yaml")
    assert caught.value.problems[0].line == 2
    with pytest.raises(PlanError):
        read_fleet(tmp_path / "none.yaml")
    path = tmp_path / "fleet.yaml"
    path.write_text("seed: 4\n")
    assert read_fleet(path).seed == 4
