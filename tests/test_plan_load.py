"""Good plans: what they resolve to, how defaults and short forms work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.core import settings
from fleet.core.model import Server, ServerId
from fleet.errors import Problem
from fleet.plan import load_plan, plan_schema
from fleet.plan.template import render_user_data

PLANS = sorted((Path(__file__).parent.parent / "plans").glob("*.yaml"))

FULL = """\
# yaml-language-server: $schema=./plan.schema.json
version: 1
name: web-tier                        # names the run's folder; [a-z0-9-]
description: Quarterly reinstall of the web tier

cloud:
  provider: ecs                       # ecs | openstack | simulator
  profile: otc-prod                   # an entry of clouds.yaml; without it, the environment
  region: eu-de
  requests_per_second: 20             # ceiling; the client also backs off by itself

windows:                              # none: any time
  - {days: [sat, sun], from: "22:00", to: "04:00", timezone: Europe/Berlin}
  - {from: 2026-12-05T20:00+01:00, to: 2026-12-06T05:00+01:00}
freeze: [2026-12-24/2026-12-27]       # dates on which nothing is started; also {ical: …}, {command: […]}
protect: {ids: [s-1], tags: {tier: control}}   # never touched, whatever a selector says
gates:                                # red, or unreadable: nothing new is started
  - {http: {url: "https://pool/health", status: 200}}
  - {command: [./gates/pool-healthy]}
  - {promql: {url: "https://prom", query: up, below: 0.02}}

rollout:                              # for every target; a target may override any of it
  waves: [1, 5, 25%]                  # servers per wave, counts or shares of the target; the last repeats
  concurrency: 20                     # servers in flight at once
  max_unavailable: 25%
  spread: {availability_zone: 10, "tag:rack": 1}   # in flight at once per value
  order: [availability_zone, name]
  failures:                           # or `max_failures: 2`, short for hold_after
    hold_after: 2                     # the 3rd failure holds; a count, or a share of the target
    in_a_row: 2
    never_more_than: {at_least: 4, of_verified: 20%}
  bake: 10m                           # between waves; then the wave is checked again
  approve_after: [1]                  # waves after which a person must approve

defaults:                             # for every target; a target may override any of it
  stop: {soft_timeout: 5m, then: hard}      # or then: fail
  reinstall:
    key_pair: KeyPair-350b            # exactly one of key_pair, admin_password
    user_id: 7e25b1da389f4697a79df3a0e5bd494e      # default: the authenticated user
    user_data: {file: cloud-init/web.yaml}         # or {text: …}, {template: web.yaml.j2}
    byol: false
    mode: stop-first                  # or with-stop-server: let the cloud stop it
    cloud_init: auto                  # auto reads the image; true: v2 call, false: v1 call
    timeout: 45m
    attempts: 2
  verify:
    timeout: 15m
    checks:
      - tcp: {port: 22}
      - http: {url: "http://{server.private_ip}:8080/healthz", status: 200}
      - command: [./checks/joined-cluster, "{server.name}"]
    stable_for: 1m
  hooks:
    around_server: [{do: [./hooks/drain], undo: [./hooks/undrain], timeout: 5m}]
    on_failure: [./hooks/page]

targets:
  - name: web
    select:                           # every given field must match; a list means any of
      name: "web-*"                   # glob, or {regex: …}
      tags: {role: web, env: [prod, stage]}
      availability_zone: [eu-de-01, eu-de-02]
      status: [ACTIVE, SHUTOFF]
    exclude:
      tags: {reinstall: never}
    expect: {min: 40, max: 60}

notify:
  - {webhook: {env: SLACK_WEBHOOK}, on: [held, failed, needs-approval, finished]}
"""


@pytest.fixture
def plan(tmp_path):
    """Write a plan, and load it."""

    def load(text: str, name: str = "web.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return load_plan(path)

    return load


def program(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def test_full_example(tmp_path, plan):
    """The example of the design loads, and nothing of it would be ignored."""
    for name in ("gates/pool-healthy", "checks/joined-cluster", "hooks/drain", "hooks/undrain", "hooks/page"):
        program(tmp_path / name)
    (tmp_path / "cloud-init").mkdir()
    (tmp_path / "cloud-init/web.yaml").write_text("#cloud-config\n")

    loaded = plan(FULL)

    assert loaded.settings.notify == (
        settings.Notify(
            webhook=settings.SecretRef(env="SLACK_WEBHOOK"),
            on=("held", "failed", "needs-approval", "finished"),
        ),
    )
    (target,) = loaded.settings.targets
    assert target.rollout == settings.Rollout(
        waves=(1, 5, settings.Share(percent=25)),
        concurrency=20,
        hold_after=2,
        order=("availability_zone", "name"),
        max_unavailable=settings.Share(percent=25),
        spread={"availability_zone": 10, "tag:rack": 1},
        in_a_row=2,
        never_more_than=settings.NeverMoreThan(at_least=4, of_verified=20),
        bake_s=600,
        approve_after=(1,),
    )
    assert target.verify.checks[2] == settings.CommandCheck(
        argv=(str(tmp_path / "checks/joined-cluster"), "{server.name}")
    )
    assert target.reinstall.user_data is not None
    assert loaded.user_data == {target.reinstall.user_data.sha256: b"#cloud-config\n"}
    assert loaded.settings.protect == settings.Select(ids=("s-1",), tags={"tier": ("control",)})


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_plans_of_the_repository(path):
    """Every plan that we ship loads without a warning."""
    loaded = load_plan(path)
    assert not loaded.warnings


def test_short_form(plan):
    """A selector and a key pair are a whole plan; the rest are the settings' own defaults."""
    made = plan("select: {tags: {role: web}}\nkey_pair: mine\n", "nightly-web.yaml").settings
    assert made.plan == "nightly-web"
    assert made.cloud == settings.CloudSettings(provider="ecs")
    assert made.targets == (
        settings.Target(
            name="nightly-web",
            select=settings.Select(tags={"role": ("web",)}),
            reinstall=settings.Reinstall(key_pair="mine"),
        ),
    )


def test_short_form_takes_a_rollout(plan):
    made = plan(
        "select: {name: [a, {regex: 'b.'}]}\nkey_pair: k\nrollout: {waves: 2, max_failures: 5%}\n"
    ).settings
    assert made.targets[0].rollout == settings.Rollout(waves=(2,), hold_after=settings.Share(percent=5))
    assert made.targets[0].select == settings.Select(name=("a",), name_regex=("b.",))


def test_target_overrides_field_by_field(plan):
    """Mappings are merged, lists and alternatives are replaced."""
    made = plan(
        """
rollout: {waves: [1, 2], concurrency: 7, failures: {hold_after: 3}}
defaults:
  stop: {soft_timeout: 1m30s, then: fail}
  reinstall: {key_pair: k, timeout: 1h, user_data: {text: "#!a"}}
  verify: {checks: [tcp: 22, tcp: 80], stable_for: 5s}
  leave: running
targets:
  - name: a
    select: {ids: x}
  - name: b
    select: {ids: y}
    rollout: {waves: 5, max_failures: 1}
    stop: {then: hard}
    reinstall: {admin_password: {env: PW}, attempts: 1, user_data: null}
    verify: {checks: [http: "http://h/"]}
    leave: as-found
""".replace("[tcp: 22, tcp: 80]", "[{tcp: 22}, {tcp: 80}]").replace(
            '[http: "http://h/"]', '[{http: "http://h/"}]'
        )
    ).settings
    a, b = made.targets
    assert a.rollout == settings.Rollout(waves=(1, 2), concurrency=7, hold_after=3)
    assert b.rollout == settings.Rollout(waves=(5,), concurrency=7, hold_after=1)
    assert (a.stop, b.stop) == (
        settings.Stop(soft_timeout_s=90, then="fail"),
        settings.Stop(soft_timeout_s=90, then="hard"),
    )
    assert a.reinstall.key_pair == "k"
    assert a.reinstall.user_data is not None
    assert b.reinstall == settings.Reinstall(
        admin_password=settings.SecretRef(env="PW"), timeout_s=3600, attempts=1
    )
    assert b.verify == settings.Verify(checks=(settings.HttpCheck(url="http://h/"),), stable_for_s=5)
    assert (a.leave, b.leave) == ("running", "as-found")


def test_yaml_1_2_words_stay_text(plan):
    """Dates, times and octal numbers reach their field as typed."""
    made = plan('select: {name: 22:00, tags: {on: no, "*": 2026-12-24, role: }}\nkey_pair: 0123\n').settings
    select = made.targets[0].select
    assert (select.name, select.tags) == (("22:00",), {"on": ("no",), "*": ("2026-12-24",), "role": ()})
    assert made.targets[0].reinstall.key_pair == "0123"


def test_aliases_are_followed(plan):
    made = plan(
        "defaults: {key_pair: k}\ntargets:\n- {name: a, select: {ids: [x]}, rollout: &r {waves: [3]}}\n"
        "- {name: b, select: {ids: [y]}, rollout: *r}\n"
    ).settings
    assert made.targets[1].rollout.waves == (3,)


def test_windows_freeze_and_gates(plan, tmp_path):
    program(tmp_path / "gate")
    (tmp_path / "company.ics").write_text("BEGIN:VCALENDAR\nEND:VCALENDAR\n")
    made = plan(
        "key_pair: k\nselect: {ids: x}\n"
        'windows: [{days: [sat, sun], nth: [1, last], from: "22:00", to: "04:00", timezone: Europe/Berlin},\n'
        "  {from: 2026-12-05T20:00+01:00, to: 2026-12-06T05:00+01:00}]\n"
        "freeze: [2026-12-24/2026-12-27, 2026-12-31, {ical: company.ics}, {ical: https://cal/x.ics},\n"
        "  {command: [./gate]}]\n"
        "gates: [{http: {url: https://up/ok, status: 204}}, {command: [./gate]},\n"
        "  {promql: {url: https://prom, query: up, below: 0.02}}]\n"
    ).settings
    assert made.windows == (
        settings.Window(
            days=("sat", "sun"), nth=(1, -1), start="22:00", end="04:00", timezone="Europe/Berlin"
        ),
        settings.Window(start="2026-12-05T20:00:00+01:00", end="2026-12-06T05:00:00+01:00"),
    )
    assert [each.dates for each in made.freeze[:2]] == [
        ("2026-12-24", "2026-12-27"),
        ("2026-12-31", "2026-12-31"),
    ]
    assert [each.ical for each in made.freeze[2:4]] == [str(tmp_path / "company.ics"), "https://cal/x.ics"]
    assert made.freeze[4].command == (str(tmp_path / "gate"),)
    assert {each.timezone for each in made.freeze} == {"Europe/Berlin"}, "the first window's"
    assert made.gates == (
        settings.HttpGate(url="https://up/ok", status=204),
        settings.CommandGate(argv=(str(tmp_path / "gate"),)),
        settings.PromqlGate(url="https://prom", query="up", below=0.02),
    )


def test_needs_says_what_comes_before(plan):
    text = (
        "defaults: {key_pair: k}\n"
        "targets: [{name: a, select: {ids: x}}, {name: b, needs: %s, select: {ids: y}}]\n"
    )
    assert [plan(text % each).settings.targets[1].needs for each in ("[a]", "[]")] == [("a",), ()]
    assert plan(text.replace("needs: %s, ", "")).settings.targets[1].needs is None


def test_the_concurrency_of_the_plan_bounds_all_targets_together(plan):
    text = "key_pair: k\nselect: {ids: x}\nrollout: {concurrency: 7}\n"
    assert plan(text).settings.concurrency is None  # one target has its own
    both = (
        "rollout: {concurrency: 7}\nfailures: {hold_after: 10%, in_a_row: 3}\nlimits: {draining: 2}\n"
        "defaults: {key_pair: k}\ntargets: [{name: a, select: {ids: x}}, {name: b, select: {ids: y}}]\n"
    )
    made = plan(both).settings
    assert made.concurrency == 7
    assert made.budget == settings.Budget(hold_after=settings.Share(percent=10), in_a_row=3)
    assert made.limits == settings.Limits(draining=2)


def test_located(plan):
    """A problem found later, against the cloud, gets its place in the file."""
    loaded = plan("select: {ids: [x]}\nkey_pair: k\n")
    assert loaded.located(Problem("gone", path="targets[0].select.ids")).line == 1


def test_template(tmp_path, plan):
    """A template is rendered for each server, and nothing is undefined in it."""
    source = b"#!{{ server.name }} {{ server.tags.role }}\n"
    (tmp_path / "u.j2").write_bytes(source)
    loaded = plan("select: {ids: x}\nreinstall: {key_pair: k, user_data: {template: u.j2}}\n")
    assert not loaded.warnings
    server = Server(id=ServerId("1"), name="web-1", tags={"role": "web"})
    assert render_user_data("template", source, server) == b"#!web-1 web\n"
    assert render_user_data("text", b"{{ x }}", server) == b"{{ x }}"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ server.tags.rol }}", "rol"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "loops more than"),
        ("{% for a in range(99999) %}0123456789abcdef{% endfor %}", "renders to more"),
        ("{{ 'a' * 10000000 }}", "more than fits"),
        ("{{ ().__class__.__mro__ }}", "unsafe"),
        ("{{ 1 / 0 }}", "division"),
    ],
)
def test_template_that_does_not_render(source, said):
    with pytest.raises(ValueError, match=said):
        render_user_data("template", source.encode(), Server(id=ServerId("1"), name="web-1"))


def test_trial_rendering_warns(tmp_path, plan):
    """What fails for the made-up server may fit the real ones: a warning, the pre-flight decides."""
    (tmp_path / "u.j2").write_text("#!{{ server.name.split('-')[5] }}")
    loaded = plan("select: {ids: x}\nreinstall: {key_pair: k, user_data: {template: u.j2}}\n")
    assert len(loaded.warnings) == 1
    assert loaded.warnings[0].line == 2


def test_schema():
    """It has the dialect, a description for every field, no nulls but those that mean something."""
    schema = plan_schema()
    json.dumps(schema)
    assert schema["$schema"].startswith("https://json-schema.org/")
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        for name, field in part["properties"].items():
            assert field.get("description"), name
            null = {"type": "null"} in field.get("anyOf", [])
            assert null == (
                name in {"user_data", "user_id"} or (name == "image" and part["title"] == "Reinstall")
            )
    assert set(schema["$defs"]["Window"]["properties"]) == {"days", "nth", "from", "to", "timezone"}
    assert {"select", "key_pair", "targets", "rollout"} < set(schema["properties"])
    # Short forms: one value where a list is meant, a bare port, a bare share.
    assert schema["$defs"]["Select"]["properties"]["ids"]["anyOf"][0]["type"] == "string"
    assert schema["$defs"]["Check"]["properties"]["tcp"]["anyOf"][0]["type"] == "integer"
