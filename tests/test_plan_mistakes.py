"""Mistakes in plans: each is named, placed, and answered with what to write instead. No secret is shown."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fleet.errors import PlanError
from fleet.plan import load_plan
from fleet.plan.model import Defaults, Hooks, Plan, Reinstall, Verify
from fleet.plan.pacing import Rollout
from fleet.plan.reader import MAX_BYTES

GOOD = "select: {ids: x}\nkey_pair: k\n"
DEFAULTS = "defaults: {key_pair: k}\n"


def mistakes(folder: Path, text: str | bytes, name: str = "p.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    return caught.value.problems


# text, place, path, what is said, what is advised
TABLE = [
    # The file
    ("", (1, 1), "", "the file is empty", "plans/minimal.yaml"),
    ("# nothing\n", (1, 1), "", "the file is empty", ""),
    ("- a\n", (1, 1), "", "a plan is a mapping, not a list", "one a line"),
    ("a: [1\nb: 2\n", (2, 2), "", "this is no YAML", "missing quote, bracket or colon"),
    ("select:\n\tids: x\n", (2, 1), "", "a tab stands", "spaces"),
    (GOOD + "---\n" + GOOD, (3, 1), "", "a second document", "one plan a file"),
    (b"name: w\xff\n", (1, 8), "", "byte 0xff is not UTF-8", "UTF-8"),
    ("name: a\nx: \u0007\n", (2, 4), "", "U+0007", "escape"),
    ("a: &a [*a]\n", (1, 8), "", "contains itself", "write the value out"),
    ("a: *b\n", (1, 4), "", "has no anchor", "quotes"),
    ("a: !vault x\n", (1, 4), "", "tags", "quotes"),
    ("a: " + "[" * 60 + "]" * 60, (1, 54), "", "nested more than 50 deep", ""),
    # Keys
    (GOOD + "key_pair: l\n", (3, 1), "key_pair", "stands twice; first on line 2", "keep one"),
    (GOOD + "<<: {name: a}\n", (3, 1), "", "merge keys", "`defaults:`"),
    ("select: {tags: {123: a}}\nkey_pair: k\n", (1, 17), "select.tags", "a key must be text", '"123":'),
    (GOOD + "? [a]\n: b\n", (3, 3), "", "a key must be text", "key: value"),
    (GOOD + "nmae: a\n", (3, 1), "nmae", "unknown field `nmae`", "did you mean name?"),
    (GOOD + "cloud: {zone: x}\n", (3, 9), "cloud.zone", "unknown field `zone`", "there are: provider"),
    (
        "select: {zone: x}\nkey_pair: k\n",
        (1, 10),
        "select.zone",
        "unknown field",
        "did you mean availability_zone?",
    ),
    (GOOD + "concurrency: 5\n", (3, 1), "concurrency", "unknown field", "belongs under rollout:"),
    (
        GOOD + "concurency: 5\n",
        (3, 1),
        "concurency",
        "unknown field `concurency`",
        "did you mean concurrency? It belongs under rollout:",
    ),
    (
        GOOD + "verify: {max-unavailable: 5}\n",
        (3, 10),
        "verify.max-unavailable",
        "unknown field",
        "did you mean max_unavailable? It belongs under rollout:",
    ),
    (
        GOOD + "parallel: 5\n",
        (3, 1),
        "parallel",
        "unknown field",
        "did you mean concurrency? It belongs under",
    ),
    (GOOD + "colour: red\n", (3, 1), "colour", "unknown field `colour`", ""),
    (GOOD + "rollout:\n", (3, 1), "rollout", "`rollout` has no value", "take it out"),
    # Scalars and YAML's traps
    (GOOD + "version: 2\n", (3, 10), "version", "2 is out of bounds", "at most 1"),
    (GOOD + 'version: "1"\n', (3, 10), "version", "found '1'", "write 1, without quotes"),
    (GOOD + "name: 123\n", (3, 7), "name", "text was expected, found 123", '"123"'),
    (GOOD + "name: 1.10\n", (3, 7), "name", "found 1.10", '"1.10"'),
    (GOOD + "name: Web Tier\n", (3, 7), "name", "'Web Tier' is no name", "web-tier"),
    (GOOD + "reinstall: {byol: no}\n", (3, 19), "reinstall.byol", "found 'no'", "write false"),
    (GOOD + "reinstall: {byol: On}\n", (3, 19), "reinstall.byol", "found 'On'", "write true"),
    (GOOD + "reinstall: {attempts: 0123}\n", (3, 23), "reinstall.attempts", "found '0123'", "write 123"),
    (GOOD + "reinstall: {attempts: 6}\n", (3, 23), "reinstall.attempts", "out of bounds", "at most 5"),
    (GOOD + "reinstall: {attempts: true}\n", (3, 23), "reinstall.attempts", "found true", "whole number"),
    (GOOD + "reinstall: {mode: stop}\n", (3, 19), "reinstall.mode", "'stop' is no mode", "stop-first"),
    (
        GOOD + "reinstall: {cloud_init: yes}\n",
        (3, 25),
        "reinstall.cloud_init",
        "'yes'",
        "auto, true or false",
    ),
    (GOOD + "reinstall: {timeout: 90}\n", (3, 22), "reinstall.timeout", "90 has no unit", "write 90s"),
    (GOOD + "reinstall: {timeout: 1d2}\n", (3, 22), "reinstall.timeout", "is no duration", "1h30m"),
    (GOOD + "reinstall: {timeout: 0s}\n", (3, 22), "reinstall.timeout", "above 0", "10m"),
    (GOOD + "stop: {then: hrad}\n", (3, 14), "stop.then", "'hrad' is no ending", "did you mean hard?"),
    (GOOD + "leave: off\n", (3, 8), "leave", "'off' is no state", "as-found, running"),
    (
        GOOD + "reinstall: k\n",
        (3, 12),
        "reinstall",
        "a mapping was expected, found 'k'",
        "below `reinstall:`",
    ),
    # Selecting
    ("select: {}\nkey_pair: k\n", (1, 9), "select", "never means every server", '"*"'),
    ("key_pair: k\n", (1, 1), "", "selects no servers", "`select:`"),
    ("select: {ids: []}\nkey_pair: k\n", (1, 15), "select.ids", "an empty list", "name what to match"),
    ("select: {tags: {env: true}}\nkey_pair: k\n", (1, 22), "select.tags.env", "text, found true", '"true"'),
    ("select: {tags: {a: [1]}}\nkey_pair: k\n", (1, 20), "select.tags.a", "found 1", '"1"'),
    ("select: {tags: {a: []}}\nkey_pair: k\n", (1, 20), "select.tags.a", "an empty list", "the tag is there"),
    ("select: {name: {regex: 'a('}}\nkey_pair: k\n", (1, 16), "select.name", "at character 2", "glob"),
    ("select: {name: 12}\nkey_pair: k\n", (1, 16), "select.name", "a number here", '"12"'),
    ("select: {ip: 10.1.2.3/8}\nkey_pair: k\n", (1, 14), "select.ip", "host bits", "write 10.0.0.0/8"),
    ("select: {ip: [ten]}\nkey_pair: k\n", (1, 15), "select.ip[0]", "no address", "10.0.3.0/24"),
    ("select: {status: activ}\nkey_pair: k\n", (1, 18), "select.status", "no status", "did you mean ACTIVE?"),
    (GOOD + "expect: {min: 5, max: 4}\n", (3, 15), "expect.min", "min 5 is more than max 4", "swap"),
    (GOOD + "protect: {}\n", (3, 10), "protect", "nothing is protected", "ids or tags"),
    (
        GOOD + "exclude: {inventory: no.json}\n",
        (3, 22),
        "exclude.inventory",
        "no file no.json",
        "plan's folder",
    ),
    # Pace
    (GOOD + "rollout: {waves: [1, 0]}\n", (3, 22), "rollout.waves[1]", "a wave of 0", "at least 1"),
    (GOOD + "rollout: {waves: [0%]}\n", (3, 19), "rollout.waves[0]", "0% is nothing", "above 0%"),
    (GOOD + "rollout: {waves: [125%]}\n", (3, 19), "rollout.waves[0]", "more than all", "100%"),
    (GOOD + "rollout: {waves: [2.5]}\n", (3, 19), "rollout.waves[0]", "2.5 is no count", "whole number"),
    (GOOD + "rollout: {waves: []}\n", (3, 18), "rollout.waves", "an empty list", "[1, 5, 25%]"),
    (
        GOOD + "rollout: {max_failures: '3'}\n",
        (3, 25),
        "rollout.max_failures",
        "text, not a count",
        "write 3",
    ),
    (
        GOOD + "rollout: {failures: {hold_after: 1}, max_failures: 1}\n",
        (3, 38),
        "rollout.max_failures",
        "is short for failures.hold_after",
        "keep one",
    ),
    (GOOD + "rollout: {order: [nam]}\n", (3, 19), "rollout.order[0]", "no attribute", "did you mean name?"),
    (GOOD + "rollout: {concurrency: 0}\n", (3, 24), "rollout.concurrency", "out of bounds", "at least 1"),
    # Time
    (
        GOOD + "windows: {from: 22:00, to: 22:00, timezone: UTC}\n",
        (3, 10),
        "windows",
        "never open",
        "different",
    ),
    (GOOD + "windows: {from: 25:00, to: 2:00}\n", (3, 17), "windows.from", "no time of day", "23:59"),
    (
        GOOD + "windows: {from: 1:00, to: 2:00}\n",
        (3, 10),
        "windows",
        "which time zone",
        "timezone: Europe/Berlin",
    ),
    (
        GOOD + "windows: [{from: 1:00, to: 2:00, timezone: Europe/Belrin}]\n",
        (3, 44),
        "windows[0].timezone",
        "is no time zone",
        "did you mean Europe/Berlin?",
    ),
    (
        GOOD + "windows: {from: 2026-12-05T20:00, to: 2026-12-06T20:00Z}\n",
        (3, 17),
        "windows.from",
        "in which time zone",
        "add the offset",
    ),
    (
        GOOD + "windows: {from: 2026-12-06T20:00Z, to: 2026-12-05T20:00Z}\n",
        (3, 10),
        "windows",
        "ends before",
        "later",
    ),
    (
        GOOD + "windows: {days: sunday, from: 1:00, to: 2:00}\n",
        (3, 17),
        "windows.days",
        "no day",
        "did you mean sun?",
    ),
    (
        GOOD + "freeze: [2026-12-24/2026-12-01]\n",
        (3, 10),
        "freeze[0]",
        "ends before it begins",
        "2026-12-01/2026",
    ),
    (GOOD + "freeze: [2026-02-30]\n", (3, 10), "freeze[0]", "is no date", "2026-12-24"),
    # Cloud
    (
        GOOD + "cloud: {provider: esc}\n",
        (3, 19),
        "cloud.provider",
        "'esc' is no provider",
        "did you mean ecs?",
    ),
    (
        GOOD + "cloud: {endpoints: {ecs: 'http://ecs.example'}}\n",
        (3, 26),
        "cloud.endpoints.ecs",
        "plain http",
        "127.0.0.1",
    ),
    (GOOD + "cloud: {endpoints: {esc: 'https://x'}}\n", (3, 21), "cloud.endpoints", "unknown field", ""),
    (
        GOOD + "cloud: {requests_per_second: 0}\n",
        (3, 30),
        "cloud.requests_per_second",
        "bounds",
        "more than 0",
    ),
    # Logging in
    ("select: {ids: x}\n", (1, 1), "", "nobody could log in", "key_pair: NAME"),
    (
        GOOD + "reinstall: {key_pair: l}\n",
        (3, 13),
        "reinstall.key_pair",
        "given twice",
        "keep one",
    ),
    (
        GOOD + "reinstall: {admin_password: {env: PW}}\n",
        (3, 13),
        "reinstall.admin_password",
        "cannot both be given",
        "keep one",
    ),
    (
        GOOD + "reinstall: {settle: 10s}\n",
        (3, 21),
        "reinstall.settle",
        "a request could live longer",
        "provider: simulator",
    ),
    (
        GOOD + "cloud: {provider: simulator}\nreinstall: {settle: 1s}\n",
        (4, 21),
        "reinstall.settle",
        "too short",
        "write 2s",
    ),
    (
        GOOD + "reinstall: {cloud_init: false, user_data: {text: '#!x'}}\n",
        (3, 25),
        "reinstall.cloud_init",
        "carries no user data",
        "auto or true",
    ),
    (
        GOOD + "reinstall: {user_data: web.yaml}\n",
        (3, 24),
        "reinstall.user_data",
        "a bare value",
        "{file: …}",
    ),
    (
        GOOD + "reinstall: {user_data: {text: a, file: b}}\n",
        (3, 24),
        "reinstall.user_data",
        "file and text cannot both",
        "keep one",
    ),
    (
        GOOD + "reinstall: {user_data: {}}\n",
        (3, 24),
        "reinstall.user_data",
        "one of file, text, template",
        "{text: …}",
    ),
    (
        GOOD + "reinstall: {user_data: {file: .}}\n",
        (3, 31),
        "reinstall.user_data.file",
        "a folder",
        "name a file",
    ),
    # Checks
    (GOOD + "verify: {checks: [{}]}\n", (3, 19), "verify.checks[0]", "one of tcp, http, command", "{tcp: …}"),
    (GOOD + "verify: {checks: {tcp: 0}}\n", (3, 24), "verify.checks.tcp", "out of bounds", "at least 1"),
    (
        GOOD + "verify: {checks: {command: ./a b}}\n",
        (3, 28),
        "verify.checks.command",
        "no shell",
        "[./program",
    ),
    (
        GOOD + "verify: {checks: {command: [./no]}}\n",
        (3, 28),
        "verify.checks.command",
        "no file ./no",
        "looked for",
    ),
    (
        GOOD + "verify: {checks: {command: ./p.yaml}}\n",
        (3, 28),
        "verify.checks.command",
        "not executable",
        "chmod +x",
    ),
    (GOOD + "verify: {checks: {command: a/b}}\n", (3, 28), "verify.checks.command", "neither", "write ./a/b"),
    (
        GOOD + 'verify: {checks: {command: [a, "{server.nmae}"]}}\n',
        (3, 28),
        "verify.checks.command",
        "{server.nmae} is not known",
        "did you mean name?",
    ),
    (
        GOOD + 'verify: {checks: {http: "http://{server.privat_ip}/"}}\n',
        (3, 25),
        "verify.checks.http",
        "is not known",
        "did you mean private_ip?",
    ),
    (GOOD + "verify: {checks: {http: 'ftp://x'}}\n", (3, 25), "verify.checks.http", "no URL", "https://"),
    (
        GOOD + "verify: {checks: {tcp: 22, timeout: 1s}}\n",
        (3, 28),
        "verify.checks.timeout",
        "means nothing",
        "commands",
    ),
    (
        GOOD + "verify: {timeout: 1m, stable_for: 1m}\n",
        (3, 35),
        "verify.stable_for",
        "not shorter",
        "raise the timeout",
    ),
    # Targets
    (GOOD + "targets: []\n", None, "", "there are no targets in the list", "add one"),
    (DEFAULTS + "targets: web\n", (2, 10), "targets", "a list was expected", "name: web"),
    (DEFAULTS + "targets: [{select: {ids: x}}]\n", (2, 11), "targets[0]", "has no `name`", "name: web"),
    (DEFAULTS + "targets: [{name: a}]\n", (2, 11), "targets[0]", "selects no servers", "select:"),
    (
        DEFAULTS + "targets: [{name: a, select: {ids: x}}, {name: a, select: {ids: y}}]\n",
        (2, 47),
        "targets[1].name",
        "two targets are called a; the first on line 2",
        "another name",
    ),
    (
        DEFAULTS + "targets: [{name: web, select: {ids: x}, needs: wbe}]\n",
        (2, 48),
        "targets[0].needs",
        "there is no target wbe",
        "did you mean web?",
    ),
    (
        DEFAULTS
        + "targets: [{name: a, select: {ids: x}, needs: b}, {name: b, select: {ids: y}, needs: a}]\n",
        (2, 46),
        "targets[0].needs",
        "wait for each other",
        "",
    ),
    (
        "key_pair: k\ntargets: [{name: a, select: {ids: x}}]\n",
        (1, 1),
        "key_pair",
        "not said at the top beside `targets`",
        "defaults: {key_pair: …}",
    ),
]


def parts() -> list[tuple[str, str, str]]:
    """Return every field of the plan with the mapping that it stands in, and how that is written."""
    found = []
    for where, model, text in (
        ("", Plan, "{}: x\n"),
        ("rollout.", Rollout, "rollout: {{{}: x}}\n"),
        ("reinstall.", Reinstall, "reinstall: {{{}: x}}\n"),
        ("verify.", Verify, "verify: {{{}: x}}\n"),
        ("defaults.", Defaults, "defaults: {{{}: x}}\n"),
        ("hooks.", Hooks, "hooks: {{{}: x}}\n"),
    ):
        found += [(where, name, text) for name in model.model_fields if len(name) > 5 and name != "key_pair"]
    return found


@pytest.mark.parametrize(("where", "name", "text"), parts())
def test_a_letter_that_is_missing_is_found_wherever_a_field_may_stand(
    tmp_path: Path, where: str, name: str, text: str
) -> None:
    typo = name[:3] + name[4:]
    found = mistakes(tmp_path, GOOD + text.format(typo))
    (problem,) = [each for each in found if each.path == where + typo]
    assert problem.hint == f"did you mean {name}?"


@pytest.mark.parametrize(("text", "place", "path", "said", "advised"), TABLE, ids=[row[3] for row in TABLE])
def test_mistake(tmp_path, text, place, path, said, advised):
    found = mistakes(tmp_path, text)
    told = "\n".join(str(problem) for problem in found)
    problem = next((problem for problem in found if said in problem.message), None)
    assert problem is not None, told
    assert problem.file == str(tmp_path / "p.yaml")
    if place is not None:
        assert (problem.line, problem.column, problem.path) == (*place, path), told
        assert problem == found[0] or place[0] == 2, told
    assert advised in (problem.hint or ""), told


def test_all_at_once(tmp_path):
    """Every mistake is reported in one go, in the order of the file, those between fields included."""
    found = mistakes(
        tmp_path,
        """\
version: 3
cloud: {provider: ecss}
rollout: {concurency: 3, waves: [0], max_failures: 2, failures: {hold_after: 1}}
windows: [{from: 22:00, to: 22:00, timezone: Europe/Berlin}]
defaults:
  reinstall: {byol: no, settle: 10s, key_pair: k}
  verify: {timeout: 1m, stable_for: 2m, checks: [{tcp: 99999}]}
targets:
  - name: web
    select: {status: activ, ip: 10.0.0.1/24}
    expect: {min: 3, max: 2}
  - name: web
    select: {}
    reinstall: {admin_password: {file: missing}, attempts: 9}
  - select: {ids: x}
    needs: wbe
notify: {webhook: hunter2, on: held}
""",
    )
    assert [(problem.line, problem.path) for problem in found] == [
        (1, "version"),
        (2, "cloud.provider"),
        (3, "rollout.concurency"),
        (3, "rollout.waves[0]"),
        (3, "rollout.max_failures"),
        (4, "windows[0]"),
        (6, "defaults.reinstall.byol"),
        (6, "defaults.reinstall.settle"),
        (7, "defaults.verify.stable_for"),
        (7, "defaults.verify.checks[0].tcp"),
        (10, "targets[0].select.status"),
        (10, "targets[0].select.ip"),
        (11, "targets[0].expect.min"),
        (12, "targets[1].name"),
        (13, "targets[1].select"),
        (14, "targets[1].reinstall.admin_password.file"),
        (14, "targets[1].reinstall.attempts"),
        (15, "targets[2]"),
        (16, "targets[2].needs"),
        (17, "notify.webhook"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "admin_password: hunter2",
        "admin_password: 'hunter2'",
        "admin_password: [hunter2]",
        "admin_password: {hunter2: }",
        "admin_password: {hunter2: a, hunter2: b}",
        "admin_password: {env: hunter2-x}",
        "admin_password: {env: {hunter2: x}}",
        "admin_password: {command: vault hunter2}",
        "admin_password: {env: a, hunter2: x}",
        "admin_password: *hunter2",
        "admin_password: !hunter2",
        "admin_password: 'hunter2",
        "admin_password: hunter2: x",
        "admin_password: %hunter2",
        "admin_password: @hunter2",
        "admin_password: {? [hunter2] : b}",
        "admin_password: &hunter2 [*hunter2]",
        "user_data: {text: [hunter2]}",
        "user_data: {text: {hunter2: }}",
        "user_data: hunter2",
    ],
)
def test_secrets_are_not_shown(tmp_path, line):
    """A secret that somebody did write into the plan is refused without showing it or its line."""
    found = mistakes(tmp_path, f"select: {{ids: x}}\nreinstall:\n  {line}\n")
    told = "\n".join(f"{problem!r} {problem}" for problem in found)
    assert "hunter2" not in told
    assert any(problem.line in {3, 4} for problem in found), told


@pytest.mark.parametrize(
    "line",
    [
        "notify: {webhook: 'https://hooks/hunter2'}",
        "gates: {http: 'https://u:hunter2@h/'}",
        "gates: {http: {url: 'https://u:hunter2@h/'}}",
        "gates: {promql: {url: 'https://u:hunter2@h/', query: up, below: 1}}",
        "cloud: {endpoints: {ecs: 'https://u:hunter2@h'}}",
        "verify: {checks: {http: 'https://u:hunter2@h/'}}",
        "verify: {checks: {http: 'hunter2'}}",
    ],
)
def test_credentials_in_urls_are_not_shown(tmp_path, line):
    found = mistakes(tmp_path, f"{GOOD}{line}\n")
    assert "hunter2" not in repr(found)


def test_secret_file_of_others(tmp_path):
    """A password that others can read is none."""
    (tmp_path / "pw").write_text("hunter2")
    (tmp_path / "pw").chmod(0o644)
    (problem,) = mistakes(tmp_path, "select: {ids: x}\nadmin_password: {file: pw}\n")
    assert (problem.line, problem.path) == (2, "admin_password.file")
    assert "chmod 600" in (problem.hint or "")
    (tmp_path / "pw").chmod(0o600)
    loaded = load_plan(tmp_path / "p.yaml")
    assert loaded.settings.targets[0].reinstall.admin_password.file == str(tmp_path / "pw")


def test_user_data_too_big(tmp_path):
    (tmp_path / "u").write_bytes(b"#" * 32769)
    (problem,) = mistakes(tmp_path, f"{GOOD}reinstall: {{user_data: {{file: u}}}}\n")
    assert "32,769 bytes" in problem.message
    (tmp_path / "u").write_bytes(b"#" * 32768)
    assert load_plan(tmp_path / "p.yaml").settings.targets[0].reinstall.user_data.size == 32768


@pytest.mark.parametrize(
    ("source", "said", "hint"),
    [
        ("#!\n{{ server.nmae }}", "line 2: `server.nmae`", "did you mean name?"),
        ("#!{{ name }}", "`name` is not known", "did you mean server.name?"),
        ("#!{% if %}", "line 1", ""),
        ("#!{% include 'x' %}", "includes another", "one file"),
    ],
)
def test_template_mistakes(tmp_path, source, said, hint):
    (tmp_path / "u.j2").write_text(source)
    (problem,) = mistakes(tmp_path, f"{GOOD}reinstall: {{user_data: {{template: u.j2}}}}\n")
    assert said in problem.message
    assert hint in (problem.hint or "")
    assert problem.line == 3


def test_no_file(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(PlanError):
            load_plan(path)


def test_no_name(tmp_path):
    (problem,) = mistakes(tmp_path, GOOD, "Web Tier.yaml")
    assert "no name" in problem.message


def test_bombs_and_giants(tmp_path):
    """Neither aliases that multiply, nor a giant file, nor brackets without end take time or memory."""
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    assert "too many values" in mistakes(tmp_path, bomb)[0].message
    assert "are not read" in mistakes(tmp_path, b"a: " + b"x" * MAX_BYTES)[0].message
    assert "nested" in mistakes(tmp_path, "[" * 1_000_000)[0].message
    assert "nested" in mistakes(tmp_path, "- " * 100_000)[0].message


# Whatever is in the file, the answer is a plan or a PlanError.

WORDS = [
    "select",
    "targets",
    "defaults",
    "reinstall",
    "rollout",
    "verify",
    "checks",
    "tcp",
    "http",
    "command",
    "name",
    "tags",
    "ids",
    "key_pair",
    "admin_password",
    "env",
    "file",
    "user_data",
    "text",
    "template",
    "waves",
    "windows",
    "from",
    "to",
    "timezone",
    "freeze",
    "gates",
    "promql",
    "hooks",
    "notify",
    "webhook",
    "expect",
    "min",
    "protect",
    "regex",
    "failures",
    "max_failures",
    "cloud",
    "endpoints",
    "ecs",
    "settle",
    "needs",
    "spread",
    "order",
    "ip",
]
VALUES = ["25%", "10m", "22:00", "*", "{server.name}", "./x", "10.0.0.0/8", "cover", "\0", "UTC"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*WORDS, *VALUES])
)
STRUCTURES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=25,
)


def survives(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.yaml"
        path.write_bytes(content)
        with contextlib.suppress(PlanError):
            load_plan(path)


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
)
def test_any_bytes(content):
    survives(content)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`?, \n\t0<~", max_size=60))
def test_any_punctuation(text):
    survives(text.encode())


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), STRUCTURES, max_size=6))
def test_any_structure(data):
    survives(yaml.safe_dump(data, allow_unicode=True).encode(errors="replace"))


def test_two_thousand_targets(tmp_path):
    """A plan of that size is read in seconds, with a mistake in every target or none."""
    for pair, expected in (("tcp: 22", 0), ("tpc: 22", 2000)):
        lines = [
            f"- {{name: t{number}, select: {{ids: [i{number}]}}, verify: {{checks: [{{{pair}}}]}}}}"
            for number in range(2000)
        ]
        text = DEFAULTS + "targets:\n" + "\n".join(lines) + "\n"
        if expected:
            assert len(mistakes(tmp_path, text)) == expected
        else:
            (tmp_path / "p.yaml").write_text(text)
            assert len(load_plan(tmp_path / "p.yaml").settings.targets) == 2000


SECRETS = st.recursive(
    st.sampled_from(["hunter2 a", "*hunter2", "hunter2-b", "1hunter2"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["env", "hunter2", "x", "hunter2 b"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(SECRETS, st.sampled_from(["admin_password", "notify"]))
def test_no_form_of_a_secret_is_shown(data, place):
    """Whatever somebody makes of the field of a secret, its words are in no message."""
    whole = {"notify": {"webhook": data}} if place == "notify" else {place: data}
    with tempfile.TemporaryDirectory() as folder:
        found = mistakes(Path(folder), yaml.safe_dump({"select": {"ids": "x"}, **whole}))
    assert "hunter2" not in repr(found)


OPENSTACK = "select: {ids: x}\nkey_pair: k\ncloud: {provider: openstack}\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("reinstall: {byol: true}", "byol: not on OpenStack: Nova knows nothing of licences"),
        ("reinstall: {user_id: u}", "user_id: not on OpenStack: Nova takes a key pair of the authenticated"),
        ("reinstall: {mode: with-stop-server}", "mode: not on OpenStack: Nova does not stop a server"),
        ("reinstall: {cloud_init: true}", "cloud_init: not on OpenStack"),
        ("reinstall: {cloud_init: false}", "cloud_init: not on OpenStack"),
        ("exclude: {enterprise_project: e}", "enterprise_project: not on OpenStack"),
        ("protect: {enterprise_project: e}", "enterprise_project: not on OpenStack"),
        ("claim: true", "claim: not on OpenStack: Nova writes metadata as a whole"),
        ("require: {backup: {younger_than: 1d}}", "require.backup: not on OpenStack"),
    ],
)
def test_what_openstack_does_not_have_is_refused_with_the_reason(tmp_path, line, message):
    (problem,) = mistakes(tmp_path, f"{OPENSTACK}{line}\n")
    assert problem.message.startswith(message)
    assert problem.hint


def test_what_asks_for_nothing_is_fine_on_openstack(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(f"{OPENSTACK}reinstall: {{byol: false, mode: stop-first, preserve_ephemeral: true}}\n")
    assert load_plan(path).settings.targets[0].reinstall.preserve_ephemeral


def test_what_only_openstack_has_is_refused_elsewhere(tmp_path):
    text = "select: {ids: x}\nkey_pair: k\nreinstall: {preserve_ephemeral: true}\n"
    assert mistakes(tmp_path, text)[0].message.startswith("preserve_ephemeral: not on this kind of cloud")
    text = "select: {ids: x}\nkey_pair: k\ncloud: {endpoints: {compute: 'https://nova'}}\n"
    assert mistakes(tmp_path, text)[0].message.startswith(
        "endpoints.compute: not a service of this kind of cloud"
    )
    text = f"{OPENSTACK.replace('openstack', 'openstack, endpoints: {ecs: https://ecs}')}"
    assert mistakes(tmp_path, text)[0].message.startswith("endpoints.ecs: not a service of OpenStack")


def test_a_plan_s_name_for_its_file_is_answered_with_the_file(tmp_path: Path) -> None:
    """`fleet resume web` goes by the name; `fleet run web` is typed next to it."""
    (tmp_path / "web.yaml").write_text("version: 1\n")
    meant = f"did you mean {tmp_path}/web.yaml?"
    for typed, hint in (("web", meant), ("db", "check the path"), ("x" * 253, "check the path")):
        with pytest.raises(PlanError) as caught:
            load_plan(tmp_path / typed)
        (problem,) = caught.value.problems
        assert (problem.message, problem.hint) == ("there is no such file", hint)
