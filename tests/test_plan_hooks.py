"""Hooks and checks in plans: what becomes of them, and what is said about mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.core.model import Server, ServerId
from fleet.core.settings import Around, HttpCheck, NonceCheck, SshCheck
from fleet.errors import PlanError
from fleet.plan import load_plan
from fleet.plan.template import render_user_data

BASE = "name: web\nkey_pair: k\nselect: {tags: {role: web}}\n"


def write(folder: Path, text: str, **files: str) -> Path:
    (folder / "drain").write_text("#!/bin/sh\n")
    (folder / "drain").chmod(0o755)
    for name, content in files.items():
        (folder / f"{name}.j2").write_text(content)
    plan = folder / "plan.yaml"
    plan.write_text(text)
    return plan


def problems(folder: Path, text: str, **files: str) -> list[tuple[str, str]]:
    with pytest.raises(PlanError) as caught:
        load_plan(write(folder, text, **files))
    return [(problem.message, problem.hint) for problem in caught.value.problems]


def test_every_hook(tmp_path: Path) -> None:
    text = (
        BASE
        + """
hooks:
  around_server:
    - {do: [./drain, "{server.name}"], undo: [undrain, "{server.id}"], timeout: 90s}
    - {do: silence, undo: unsilence}
  before_run: [./drain, all]
  after_run: thaw
  before_wave: ask
  after_wave: tell
  on_failure: page
  on_hold: page
  timeout: 10s
  env: [KUBECONFIG, LB_TOKEN]
"""
    )
    loaded = load_plan(write(tmp_path, text))
    [target] = loaded.settings.targets
    hooks = target.hooks
    drain = str(tmp_path / "drain")
    assert hooks.around_server == (
        Around(do=(drain, "{server.name}"), undo=("undrain", "{server.id}"), timeout_s=90.0),
        Around(do=("silence",), undo=("unsilence",)),
    )
    assert hooks.before_run == (drain, "all")
    assert (hooks.after_run, hooks.before_wave, hooks.after_wave) == (("thaw",), ("ask",), ("tell",))
    assert (hooks.on_failure, hooks.on_hold, hooks.timeout_s) == (("page",), ("page",), 10.0)
    assert hooks.env == ("KUBECONFIG", "LB_TOKEN")


def test_a_targets_hooks_are_laid_over_those_for_all(tmp_path: Path) -> None:
    text = """
name: two
defaults:
  key_pair: k
  hooks: {on_failure: page, around_server: [{do: a, undo: b}]}
targets:
  - {name: db, select: {tags: {role: db}}, hooks: {around_server: []}}
  - {name: web, select: {tags: {role: web}}, hooks: {on_hold: tell}}
"""
    db, web = load_plan(write(tmp_path, text)).settings.targets
    assert (db.hooks.around_server, db.hooks.on_failure) == ((), ("page",))
    assert web.hooks.around_server == (Around(do=("a",), undo=("b",)),)
    assert (web.hooks.on_failure, web.hooks.on_hold) == (("page",), ("tell",))


@pytest.mark.parametrize(
    ("hooks", "message", "hint"),
    [
        ("{around_server: [{do: a}]}", "undo", ""),
        ("{around_server: [{do: a, undo: ./nothing}]}", "there is no file ./nothing", ""),
        ("{around_server: [{do: a b, undo: c}]}", "no shell reads it", "[./program, argument]"),
        ('{on_failure: [a, "{server.nam}"]}', "{server.nam} is not known", "name"),
        ('{before_run: [a, "{server.name}"]}', "{server.name} means nothing in `before_run`", "FLEET_*"),
        ('{around_server: [{do: [a, "{server.public_ip}"], undo: b}]}', "public_ip", "private_ip"),
        ("{env: [1A]}", "no name of an environment variable", "digits"),
        ("{before_server: a}", "before_server", "before_wave"),
    ],
)
def test_mistakes_in_hooks(tmp_path: Path, hooks: str, message: str, hint: str) -> None:
    [found] = problems(tmp_path, f"{BASE}hooks: {hooks}\n")
    assert message in found[0] + found[1]
    assert hint.strip("{}") in found[0] + found[1]


def test_every_check(tmp_path: Path) -> None:
    checks = (
        '[ssh: 22, ssh: {port: 2222}, http: {url: "https://{server.private_ip}/", body: "UP", tls: false}]'
    )
    checks = (
        "\n    - ssh: 22\n    - {ssh: {port: 2222}}\n    - http: {url: https://x/, body: '^UP', tls: false}\n"
    )
    [target] = load_plan(write(tmp_path, f"{BASE}verify:\n  checks:{checks}")).settings.targets
    assert target.verify.checks == (
        SshCheck(port=22),
        SshCheck(port=2222),
        HttpCheck(url="https://x/", body="^UP", tls=False),
    )


@pytest.mark.parametrize(
    ("check", "message", "hint"),
    [
        ("{tcp: ssh}", "a port is a number, found 'ssh'", "write 22"),
        ("{tcp: '8080'}", "a port is a number", "write 8080"),
        ("{tcp: {port: https}}", "a port is a number", "write 443"),
        ("{ssh: 99999}", "out of bounds", "65535"),
        ("{http: {url: http://x/, body: '['}}", "is no regular expression", "plain words"),
        (
            "{ssh: 22, timeout: 5s}",
            "`timeout` beside a tcp, ssh or http check means nothing",
            "verify.timeout",
        ),
    ],
)
def test_mistakes_in_checks(tmp_path: Path, check: str, message: str, hint: str) -> None:
    [found] = problems(tmp_path, f"{BASE}verify: {{checks: [{check}]}}\n")
    assert message in found[0]
    assert hint in found[1]


TEMPLATE = (
    "#cloud-config\nwrite_files: [{path: /etc/fleet, content: '{{ fleet.nonce }} {{ server.name }}'}]\n"
)
WITH_TEMPLATE = BASE + "reinstall: {user_data: {template: cloud.j2}}\n"


def test_a_nonce(tmp_path: Path) -> None:
    text = WITH_TEMPLATE + 'verify: {nonce: {http: "http://{server.private_ip}/fleet"}, checks: [ssh: 22]}\n'
    text = text.replace("[ssh: 22]", "[{ssh: 22}]")
    loaded = load_plan(write(tmp_path, text, cloud=TEMPLATE))
    [target] = loaded.settings.targets
    page = NonceCheck(url="http://{server.private_ip}/fleet")
    assert target.verify.checks == (SshCheck(port=22), page)
    text = WITH_TEMPLATE + "verify: {nonce: {command: [./drain], timeout: 5s}}\n"
    [target] = load_plan(write(tmp_path, text, cloud=TEMPLATE)).settings.targets
    assert target.verify.checks == (NonceCheck(argv=(str(tmp_path / "drain"),), timeout_s=5.0),)


def test_a_nonce_is_rendered_and_changes_no_digest(tmp_path: Path) -> None:
    server = Server(id=ServerId("i"), name="web-1")
    one, other = (render_user_data("template", TEMPLATE.encode(), server, nonce) for nonce in ("a1", "b2"))
    assert b"content: 'a1 web-1'" in one
    assert one != other
    plan = write(tmp_path, WITH_TEMPLATE, cloud=TEMPLATE)
    assert load_plan(plan).settings.targets == load_plan(plan).settings.targets


@pytest.mark.parametrize(
    ("text", "template", "message"),
    [
        (BASE + "verify: {nonce: {command: x}}\n", TEMPLATE, "its user data holds none"),
        (WITH_TEMPLATE + "verify: {nonce: {command: x}}\n", "#cloud-config\n", "its user data holds none"),
        (WITH_TEMPLATE + "verify: {nonce: {http: http://x/, timeout: 5s}}\n", TEMPLATE, "`timeout` beside"),
        (WITH_TEMPLATE + "verify: {nonce: {}}\n", TEMPLATE, "one of command, http is missing"),
        (WITH_TEMPLATE, "#cloud-config\n{{ fleet.run }}\n", "`fleet.run` is not known"),
    ],
)
def test_mistakes_with_nonces(tmp_path: Path, text: str, template: str, message: str) -> None:
    [found] = problems(tmp_path, text, cloud=template)
    assert message in found[0]
