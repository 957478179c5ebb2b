"""`validate`, `preview`, `schema` and words of other tools, without a cloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.cli.main import run_command_line
from fleet.secrets import register

PLANS = Path(__file__).parents[1] / "plans"
GOOD = "select: {tags: {role: web}}\nkey_pair: k\ncloud: {provider: simulator}\n"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def data(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_valid_plan_as_json(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["validate", str(plan), "-o", "json"]) == 0
    assert data(capsys) == {"valid": True, "problems": [], "warnings": []}


def test_everything_that_is_wrong_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("slect: {}\nkey_pair: 5\nrollout: {concurrency: none}\n")
    assert run_command_line(["validate", str(path), "-o", "json"]) == 2
    found = data(capsys)
    assert found["valid"] is False
    assert len(found["problems"]) >= 3
    assert {"message", "hint", "file", "line", "column", "path"} == set(found["problems"][0])
    assert {problem["line"] for problem in found["problems"]} >= {1, 2, 3}
    assert run_command_line(["validate", str(path)]) == 2
    talk = capsys.readouterr()
    assert talk.out == ""
    assert f"{path}:1:1" in talk.err


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_plans_that_we_show_are_valid(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["validate", str(path)]) == 0
    talk = capsys.readouterr()
    assert "a valid plan" in talk.out
    assert talk.err == ""


def test_the_schema_is_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """The words of JSON Schema in their places, and no reference that leads nowhere."""
    assert run_command_line(["schema"]) == 0
    schema = data(capsys)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert {"select", "targets", "rollout", "key_pair"} <= set(schema["properties"])
    known = {f"#/$defs/{name}" for name in schema["$defs"]}
    references = set(_references(schema))
    assert references
    assert references <= known
    assert all(each.get("description") for each in schema["properties"].values())


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for each in value.values() for ref in _references(each)]
    return [ref for each in value for ref in _references(each)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    ("word", "ours"), [("plan", "preview"), ("apply", "run"), ("ls", "runs"), ("start", "run")]
)
def test_words_of_other_tools_lead_to_ours(word: str, ours: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line([word, "x.yaml"]) == 2
    assert f"Did you mean {ours!r}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["--nothing"], ["run"], ["run", "a", "b"], ["status", "-o", "xml"]]
)
def test_usage_errors_are_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(arguments) == 2
    talk = capsys.readouterr()
    assert talk.out == ""
    assert "Traceback" not in talk.err


def test_a_plan_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("validate", "preview", "run"):
        assert run_command_line([command, str(tmp_path / "no.yaml")]) == 2
        assert "no.yaml" in capsys.readouterr().err


def test_a_defect_is_exit_1_without_secrets(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours, and said so; the traceback has no locals, and no secret in the exception's words."""
    register("canary-in-a-traceback")

    def broken(_path: Path) -> None:
        raise RuntimeError("it was canary-in-a-traceback")

    monkeypatch.setattr("fleet.cli.plans.load_plan", broken)
    assert run_command_line(["validate", str(plan)]) == 1
    talk = capsys.readouterr().err
    assert "a defect of fleet" in talk
    assert "RuntimeError: it was [secret]" in talk
    assert "canary" not in talk
