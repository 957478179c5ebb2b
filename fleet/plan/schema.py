"""The JSON Schema of the plan format, for editors."""

from __future__ import annotations

from typing import Any

from fleet.plan.model import Plan

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NULL_MEANS_NONE = ("user_data", "user_id", "image")


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema of plan files.

    It says what a schema can say; time zones, files and rules between fields are `fleet validate`'s.
    """
    schema = Plan.model_json_schema(by_alias=True)
    reinstall = schema["$defs"]["Reinstall"]["properties"]
    keep = [reinstall[name] for name in _NULL_MEANS_NONE]
    for part in (schema, *schema["$defs"].values()):
        for name, field in part.get("properties", {}).items():
            field.pop("title", None)
            if field.get("default", ...) is None:
                del field["default"]
            if not any(field is kept for kept in keep):
                part["properties"][name] = _without_null(field)
        part.get("description") and part.update(description=_one_line(part["description"]))
        if choices := _CHOICES.get(part.get("title", "")):
            part["oneOf"] = [{"required": [name]} for name in choices]
    schema["$defs"]["Target"]["required"] = [
        "name",
        "select",
    ]  # optional in the model: the check says it better
    schema.pop("description", None)
    return {
        "$schema": _DIALECT,
        "title": "fleet plan",
        "description": "Which servers are reinstalled, with what, and how carefully",
        **{name: value for name, value in schema.items() if name != "title"},
        "anyOf": [{"required": ["targets"]}, {"required": ["select"]}],
    }


_CHOICES = {
    "Secret": ("env", "file", "command"),
    "UserData": ("file", "text", "template"),
    "Check": ("tcp", "http", "command", "ssh"),
    "Nonce": ("command", "http"),
    "Gate": ("http", "command", "promql"),
    "Calendar": ("dates", "ical", "command"),
}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Drop the null of an optional field: a field is given with a value or not at all."""
    ways = field.get("anyOf")
    if not ways or {"type": "null"} not in ways:
        return field
    left = [way for way in ways if way != {"type": "null"}]
    others = {name: value for name, value in field.items() if name != "anyOf"}
    return {**left[0], **others} if len(left) == 1 else {"anyOf": left, **others}


def _one_line(text: str) -> str:
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())
