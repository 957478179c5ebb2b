"""Say in our words what pydantic found, with the place and a remedy; and keep secrets out of it."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fleet.errors import Problem
from fleet.plan.fields import show, suggest
from fleet.plan.model import Cloud, Defaults, Hooks, Plan, Reinstall, Select, Stop, Target, Verify
from fleet.plan.pacing import Part, Rollout
from fleet.plan.reader import Document, Loc, is_secret, kind_of

P = TypeVar("P", bound=Part)

_ROUNDS = 30

NULL_TAKES_AWAY = frozenset({"user_data", "user_id", "image"})
"""Fields in which null means something: none, whatever the defaults say."""

_SYNONYMS = {
    "zone": "availability_zone", "zones": "availability_zone", "az": "availability_zone",
    "keypair": "key_pair", "keyname": "key_pair", "key_name": "key_pair", "ssh_key": "key_pair",
    "password": "admin_password", "adminpass": "admin_password", "userdata": "user_data",
    "max_in_flight": "concurrency", "parallel": "concurrency", "parallelism": "concurrency",
    "batch": "waves", "serial": "waves", "networks": "vpc", "subnet": "ip", "depends_on": "needs",
    "selector": "select", "servers": "targets", "max_unavailability": "max_unavailable",
}  # fmt: skip

_TRUTH = {"yes": "true", "on": "true", "y": "true", "1": "true", "true": "true"}
_UNTRUTH = {"no": "false", "off": "false", "n": "false", "0": "false", "false": "false"}

_HOMES: tuple[tuple[str, type[Part]], ...] = (
    ("at the top of the plan", Plan),
    ("under reinstall:", Reinstall),
    ("under rollout:", Rollout),
    ("under select:", Select),
    ("in a target", Target),
    ("under defaults:", Defaults),
    ("under verify:", Verify),
    ("under stop:", Stop),
    ("under hooks:", Hooks),
    ("under cloud:", Cloud),
)

_NEAR = 0.8
"""How alike a field of another place must be: "did you mean" is worse than nothing when one did not."""


def parse(model: type[P], data: object, loc: Loc, document: Document, problems: list[Problem]) -> P | None:
    """Validate *data*, note what is wrong with it, and return what is right with it.

    What is wrong is cut out, so that rules about several fields can still be checked on the others.

    Args:
        model: What it should be.
        data: Plain data as read.
        loc: Where it stands.
        document: The file.
        problems: What is found is put here.

    Returns:
        The part, without its faulty fields, or None when nothing is left of it.
    """
    left = copy.deepcopy(data)
    for attempt in range(_ROUNDS):
        try:
            return model.model_validate(left)
        except ValidationError as error:
            details = error.errors(include_url=False)
        if attempt == 0:  # later ones come of the cutting
            problems += _translate(model, details, loc, document)
        # Found first and cut then: a second error in a part that is gone would lead to the part around it.
        faulty = [_entry(left, detail["loc"]) for detail in details]
        for entry in faulty:
            if entry is None:
                return None
            entry[0].pop(entry[1], None)
    return None


def _entry(data: object, loc: Loc) -> tuple[dict[str | int, object], str | int] | None:
    """Find the entry of a mapping that *loc* leads through last; None when there is none."""
    found, last = data, None
    for part in loc:
        if isinstance(found, dict) and part in found:
            last = (found, part)
            found = found[part]
        elif isinstance(found, list) and isinstance(part, int) and part < len(found):
            found = found[part]
    return last


def _translate(
    model: type[Part], details: list[ErrorDetails], base: Loc, document: Document
) -> Iterator[Problem]:
    seen: set[tuple[Loc, str]] = set()
    for detail in details:
        loc = document.trace((*base, *detail["loc"]))
        if detail["type"] != "extra_forbidden" and document.get(*loc) is None and document.has(*loc):
            continue  # `nothing_given` reports these
        message, hint = _words(model, detail, loc, document)
        if is_secret(loc):
            message, hint = _discreet(detail, message, hint)
        if (loc, message) in seen:
            continue
        seen.add((loc, message))
        at_key = detail["type"] in {"missing", "extra_forbidden"}
        yield document.problem(loc, message, hint or None, at_key=at_key)


def _discreet(detail: ErrorDetails, message: str, hint: str) -> tuple[str, str]:
    """Drop whatever of *message* and *hint* repeats what was typed into a secret field."""
    leaves = [leaf for leaf in _leaves(detail["input"]) if leaf]
    if any(leaf in message for leaf in leaves):
        message = "what stands here does not belong here"
    if any(leaf in hint for leaf in leaves):
        hint = "compare with `fleet schema`"
    return message, hint


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield str(value)


def _words(model: type[Part], detail: ErrorDetails, loc: Loc, document: Document) -> tuple[str, str]:  # noqa: C901 - one case per kind of error
    """Return our sentence and the remedy for one of pydantic's errors."""
    context = detail.get("ctx", {})
    value = detail["input"]
    typed = document.typed.get(loc, "")
    match detail["type"]:
        case "fleet":
            return context["message"], context["hint"]
        case "extra_forbidden":
            return _unknown(model, detail, loc)
        case "missing":
            name = detail["loc"][-1]
            return f"`{name}` is missing", f"add `{name}:`"
        case "bool_type" | "bool_parsing" | "literal_error":
            if isinstance(value, bool) or "cloud_init" in detail["loc"]:
                return f"{show(value)} does not belong here", "write auto, true or false"
            meant = _TRUTH.get(typed.lower()) or _UNTRUTH.get(typed.lower()) or "true or false"
            return f"true or false was expected, found {show(value)}", f"write {meant}"
        case "string_type":
            if isinstance(value, bool | int | float):
                return (
                    f"text was expected, found {typed or show(value)}",
                    f'put it in quotes: "{typed or show(value)}"',
                )
            return f"text was expected, found {kind_of(value)}", "write one value"
        case "int_type" | "float_type" | "int_from_float":
            return f"a number was expected, found {show(value)}", _number_hint(typed, value)
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            bound = next(iter(context.values()))
            word = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}[
                next(iter(context))
            ]
            return f"{show(value)} is out of bounds", f"write {word} {bound:g}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"a mapping was expected, found {_found(value)}", _fields_hint(loc)
        case "list_type":
            return f"a list was expected, found {_found(value)}", "write [one, two]"
        case "string_too_short" | "too_short":
            return "nothing stands here", "write a value, or take the field out"
    return f"this value is not accepted ({detail['type'].replace('_', ' ')})", "compare with `fleet schema`"


def _found(value: object) -> str:
    return show(value) if isinstance(value, str | int | float) else kind_of(value)


def _number_hint(typed: str, value: object) -> str:
    bare = typed.replace("_", "")
    if isinstance(value, str) and bare.isascii() and bare.isdecimal() and len(bare) < 18:
        return (
            f"write {int(bare)}, without quotes"
            if bare == typed and bare == str(int(bare))
            else f"write {int(bare)}"
        )
    return "write a whole number" if not isinstance(value, float) else f"write {value:.0f}"


def _fields_hint(loc: Loc) -> str:
    return (
        f"write its fields below `{loc[-1]}:`, indented"
        if loc and isinstance(loc[-1], str)
        else "write field: value"
    )


def _unknown(model: type[Part], detail: ErrorDetails, loc: Loc) -> tuple[str, str]:
    """A field that does not exist: what was meant, or where it belongs."""
    name = str(detail["loc"][-1])
    if is_secret(loc[:-1]):
        return (
            "an unknown field stands here",
            "a secret is given as {env: NAME}, {file: path} or {command: […]}",
        )
    known = fields_at(model, detail["loc"][:-1])
    meant = _SYNONYMS.get(name.lower().replace("-", "_"))
    if meant in known:
        return f"unknown field `{name}`", f"did you mean {meant}?"
    hint = suggest(name, known)
    if not hint.startswith("did"):
        hint = _elsewhere(name, None if hint else meant) or hint
    return f"unknown field `{name}`", hint


def _elsewhere(name: str, meant: str | None) -> str | None:
    """Say where a field belongs that does not exist here: this one, what it *meant*, or the nearest one."""
    places: dict[str, str] = {}
    for place, home in _HOMES:
        for field in home.model_fields:
            places.setdefault(_alias(home, field), place)
    if name in places:
        return f"`{name}` belongs {places[name]}"
    near = [meant] if meant in places else difflib.get_close_matches(name.lower(), places, n=1, cutoff=_NEAR)
    return f"did you mean {near[0]}? It belongs {places[near[0]]}" if near else None


def fields_at(model: type[Part], loc: Loc) -> list[str]:
    """Return the names of the fields of the part that *loc* leads to, seen from *model*."""
    here = model
    for part in loc:
        if isinstance(part, int) or part not in (by_name := {_alias(here, f): f for f in here.model_fields}):
            continue
        inner = _part_of(here.model_fields[by_name[part]].annotation)
        if inner is not None:
            here = inner
    return [_alias(here, name) for name in here.model_fields]


def _alias(model: type[Part], name: str) -> str:
    return model.model_fields[name].alias or name


def _part_of(annotation: object) -> type[Part] | None:
    """Find the part inside ``X | None``, ``list[X]``, ``Annotated[X, …]``."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _part_of(inner)) is not None:
            return found
    return None


def nothing_given(document: Document) -> Iterator[Problem]:
    """Report every field with nothing behind its colon, except where that means something."""
    for loc in document.values:
        if not loc or document.get(*loc) is not None:
            continue
        is_tag = len(loc) > 1 and loc[-2] == "tags"
        takes_away = loc[-1] in NULL_TAKES_AWAY and "reinstall" in loc
        if not is_tag and not takes_away:
            message = "nothing stands here" if isinstance(loc[-1], int) else f"`{loc[-1]}` has no value"
            if is_secret(loc[:-1]):
                message = "nothing stands here"
            yield document.problem(loc, message, "write a value, or take it out", at_key=True)
