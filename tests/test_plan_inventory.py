"""Ansible inventories in a plan: every form that people have, and what is refused with its line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.core.edits import edits
from fleet.core.model import Server, ServerId
from fleet.core.settings import Settings
from fleet.errors import PlanError
from fleet.plan import load_plan
from fleet.plan.inventory import InventoryError, hosts_of
from fleet.rehearsal.rehearse import from_cloud

LISTED = json.dumps(
    {
        "_meta": {
            "hostvars": {"web-1": {"ansible_host": "10.0.0.1", "n": 1}, "db-1": {"password": "hidden"}}
        },
        "all": {"children": ["ungrouped", "db", "site"]},
        "site": {"children": ["web"]},
        "web": {"hosts": ["web-1", "web-2"]},
        "db": {"hosts": ["db-1"]},
    }
)
YAML = """\
all:
  vars: {secret: !vault "x", <<: {a: b}}
  hosts:
    db-1:
  children:
    site:
      children:
        web:
          hosts:
            web-1: {ansible_host: 10.0.0.1}
            web-2:
"""
INI = """\
; mail
db-1 password='hid den'  # old

[web]
web-1:2222 ansible_host=10.0.0.1
web-2
[site:children]
web
[web:vars]
ansible_user=root
"""
EVERYBODY = {"db-1": "db-1", "web-1": "10.0.0.1", "web-2": "web-2"}


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", LISTED), ("hosts", LISTED), ("hosts", YAML), ("hosts", INI), ("x.ini", INI)]
)
def test_forms(name, text):
    assert hosts_of(text.encode(), name, None) == EVERYBODY
    assert hosts_of(text.encode(), name, "all") == EVERYBODY
    assert sorted(hosts_of(text.encode(), name, "site")) == ["web-1", "web-2"]


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("web-[01:03]", "web-01 web-02 web-03"),
        ("web-[8:10].x", "web-8.x web-9.x web-10.x"),
        ("web-[1:5:2]", "web-1 web-3 web-5"),
        ("[a:b][1:2]:22", "a1 a2 b1 b2"),
    ],
)
def test_ranges(pattern, hosts):
    assert " ".join(hosts_of(f"[web]\n{pattern}\n".encode(), "hosts", "web")) == hosts
    assert " ".join(hosts_of(f'web: {{hosts: {{"{pattern}": }}}}'.encode(), "a.yaml", "web")) == hosts


BOMB = "a: &a {hosts: {x: }}\n" + "".join(
    f"b{n}: &b{n} {{children: {{"
    + ", ".join(f"c{k}: *{f'b{n - 1}' if n else 'a'}" for k in range(9))
    + "}}\n"
    for n in range(8)
)


@pytest.mark.parametrize(
    ("name", "text", "line", "said"),
    [
        ("a.ini", "[web]\n", None, "lists no host"),
        ("a.json", "{}", None, "lists no host"),
        ("a.yaml", "- web-1\n", None, "a mapping of groups"),
        ("a.yaml", "web:\n  hosts: {a: , a: }\n", 2, "stands twice"),
        ("a.json", '{"web": {"hosts": ["a"]}, "web": {"hosts": ["b"]}}', None, "stands twice"),
        ("a.json", '{"web":\n ["a",}', 2, "neither YAML nor JSON"),
        ("a.yaml", BOMB, None, "aliases blow it up"),
        ("a.yaml", "web: {host: a}\n", None, "has the field 'host'"),
        ("a.ini", "[web]\nweb-[50:01]\n", 2, "is no range"),
        ("a.ini", "[web]\nweb-[1:999999999]\n", 2, "more than 20,000 hosts"),
        ("a.ini", "[web]\nweb-1 web-2\n", 2, "more than one word"),
        ("a.ini", "[web]\nweb-1 p='hunter2\n", 2, "a quote is not closed"),
        ("a.ini", "[web:children]\nwbe\n", 2, "no group wbe"),
        ("hosts", "#!/bin/sh\n", None, "a program"),
        ("a.json", '{"web": ["a\\u001b[2J"]}', None, "is no host"),
        ("hosts", "web-\udcff".encode("utf-8", "surrogateescape"), 1, "not UTF-8"),
    ],
)
def test_mistakes(name, text, line, said):
    with pytest.raises(InventoryError) as refused:
        hosts_of(text if isinstance(text, bytes) else text.encode(), name, None)
    assert said in refused.value.message
    assert refused.value.hint
    assert "hunter2" not in refused.value.message + refused.value.hint
    if line is not None:
        assert refused.value.line == line


def test_groups_that_form_a_circle():
    assert hosts_of(b"[a:children]\nb\n[b:children]\na\n[b]\nx\n", "hosts", "a") == {"x": "x"}


def load(folder: Path, lines: str) -> Settings:
    (folder / "plan.yaml").write_text(f"key_pair: k\n{lines}\n")
    return load_plan(folder / "plan.yaml").settings


def test_a_plan_takes_its_hosts_from_the_file_beside_it(tmp_path):
    (tmp_path / "hosts.json").write_text(LISTED)
    made = load(
        tmp_path,
        "select: {inventory: hosts.json, older_than: 90d}\n"
        "exclude: {inventory: {file: hosts.json, group: db}}\n"
        "protect: {older_than: 28d, inventory: hosts.json}",
    )
    [target] = made.targets
    assert target.select.hosts == EVERYBODY
    assert target.select.older_than_s == 90 * 86400
    assert target.exclude is not None
    assert target.exclude.hosts == {"db-1": "db-1"}
    assert made.protect is not None
    assert (made.protect.hosts, made.protect.older_than_s) == (EVERYBODY, 28 * 86400)
    assert "hidden" not in repr(made)


def test_what_is_wrong_with_it_is_said_with_both_lines(tmp_path):
    (tmp_path / "hosts").write_text("[web]\nweb-[5:1]\n")
    with pytest.raises(PlanError) as refused:
        load(tmp_path, "select: {inventory: {file: hosts, group: wbe}}")
    [problem] = refused.value.problems
    assert (problem.line, problem.path) == (2, "select.inventory.file")
    assert problem.message == "the inventory hosts, line 2: [5:1] is no range"


def test_a_group_that_is_not_there(tmp_path):
    (tmp_path / "hosts").write_text(INI)
    with pytest.raises(PlanError, match="there is no group wbe") as refused:
        load(tmp_path, "select: {inventory: {file: hosts, group: wbe}}")
    assert refused.value.problems[0].hint == "did you mean web?"


def test_a_changed_inventory_changes_who(tmp_path):
    (tmp_path / "hosts").write_text("web-1\n")
    before = load(tmp_path, "select: {inventory: hosts}")
    (tmp_path / "hosts").write_text("web-1\nweb-2 ansible_host=10.0.0.2\n")
    fixed, pacing = edits(before, load(tmp_path, "select: {inventory: hosts}"))
    assert len(fixed) == 1
    assert fixed[0].endswith("select.hosts.web-2: nothing → 10.0.0.2")
    assert not pacing


def test_a_rehearsal_copies_how_old_servers_are(tmp_path):
    """Else a plan that selects by age would be rehearsed on other servers than it means."""
    (tmp_path / "hosts").write_text("web-1\n")
    settings = load(tmp_path, "select: {inventory: hosts, older_than: 90d}")
    server = Server(id=ServerId("a"), name="web-1", created="2026-01-01T00:00:00Z")
    story = from_cloud(settings, [server], {}, {}, 1, datetime(2026, 1, 3, tzinfo=UTC))
    assert [each.age_s for each in story.servers] == [2 * 86400]
