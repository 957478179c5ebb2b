"""The small words of a plan: durations, counts, shares, names; and the forms they come in.

Each is a pydantic type that says in our own sentence what is wrong and what to write, and shows editors
what it looks like. The sentences travel as errors of the type ``fleet``; `fleet.plan.messages` reads them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from fleet.core.settings import SHUFFLE, Share


def wrong(message: str, hint: str = "") -> PydanticCustomError:
    """Make the error that carries our sentence and its remedy through pydantic."""
    return PydanticCustomError("fleet", "{message}", {"message": message, "hint": hint})


def show(value: object) -> str:
    """Write what was found, briefly, the way it would stand in YAML."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"'{value}'" if len(value) <= 40 else f"'{value[:37]}…'"
        case int() | float():
            return str(value)
        case list():
            return "a list"
        case Mapping():
            return "a mapping"
    return "something else"


def suggest(word: str, known: Iterable[str]) -> str:
    """Return "did you mean …?", or what there is when nothing is near."""
    words = list(known)
    folded = {name.lower(): name for name in reversed(words)}
    near = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    if near:
        return f"did you mean {folded[near[0]]}?"
    return f"there are: {', '.join(words)}" if 0 < len(words) <= 20 else ""


# Forms ------------------------------------------------------------------------------------------------


class Listed:
    """One value may stand where a list is meant; an empty list means nothing and is an error."""

    def __init__(self, *, empty: str = "") -> None:
        self._empty = empty

    def _widen(self, value: object) -> object:
        if isinstance(value, list):
            if not value and self._empty:
                raise wrong("an empty list matches nothing", self._empty)
            return value
        if value is None:
            raise wrong("nothing stands here", "write a value, or take the field out")
        return [value]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's own signature
        return core_schema.no_info_before_validator_function(self._widen, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        listed = handler(schema)
        if self._empty:
            listed = {**listed, "minItems": 1}
        return {"anyOf": [listed.get("items", {}), listed]}


@dataclass(frozen=True)
class Short:
    """A bare value stands for a mapping with one field: ``tcp: 22`` for ``tcp: {port: 22}``."""

    field: str
    kinds: tuple[type, ...]

    def _widen(self, value: object) -> object:
        if isinstance(value, self.kinds) and not isinstance(value, bool):
            return {self.field: value}
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's own signature
        return core_schema.no_info_before_validator_function(self._widen, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        long = handler(schema)
        inner = handler.resolve_ref_schema(long)
        return {"anyOf": [inner.get("properties", {}).get(self.field, {}), long]}


MAX_RENDERED = 1024 * 1024  # bytes of a template; the cloud takes 32 KiB, but compression may come later
FEW = "name what to match, or take the field out"

Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[list[Text], Listed(empty=FEW)]

# Durations --------------------------------------------------------------------------------------------

_DURATION = (
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?"
)
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_LONGEST_S = 366 * 86400.0


def parse_duration(value: object) -> float:
    """Return the seconds of ``90s``, ``10m``, ``1h30m``, ``2d``, ``500ms``; a bare number has no unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise wrong(f"{value} has no unit", f"write {value}s, {value}m or {value}h")
    if not isinstance(value, str):
        raise wrong(f"a duration was expected, found {show(value)}", "write 90s, 10m, 1h30m or 2d")
    found = re.fullmatch(_DURATION, value, re.ASCII) if len(value) <= 40 else None
    if not value or found is None:
        number = re.fullmatch(r"\d{1,9}", value, re.ASCII)
        raise wrong(
            f"{show(value)} is no duration",
            f"write {value}s, {value}m or {value}h" if number else "write 90s, 10m, 1h30m or 2d",
        )
    seconds = sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS, strict=True) if part)
    if seconds > _LONGEST_S:
        raise wrong(f"{value} is longer than a year", "write 90s, 10m, 1h30m or 2d")
    return seconds


def _some_time(seconds: float) -> float:
    if seconds <= 0:
        raise wrong("this duration must be above 0", "write 90s, 10m, 1h30m or 2d")
    return seconds


_DURATION_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "pattern": r"^(?=.)(\d+(\.\d+)?d)?(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?(\d+ms)?$",
        "examples": ["90s", "10m", "1h30m", "2d"],
    }
)
Duration = Annotated[float, PlainValidator(parse_duration), _DURATION_SCHEMA]
"""Seconds, 0 allowed."""
Timeout = Annotated[float, PlainValidator(parse_duration), AfterValidator(_some_time), _DURATION_SCHEMA]
"""Seconds above 0."""

# Counts and shares ------------------------------------------------------------------------------------


def parse_share(value: object) -> Share:
    """Return the share of ``25%``."""
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s?%", value, re.ASCII) if isinstance(value, str) else None
    if found is None:
        raise wrong(f"a share was expected, found {show(value)}", "write a percentage such as 25%")
    percent = float(found[1])
    if percent > 100:
        raise wrong(f"{value} is more than all", "write at most 100%")
    if percent <= 0:
        raise wrong(f"{value} is nothing", "write a share above 0%")
    return Share(percent=percent)


def parse_amount(value: object) -> int | Share:
    """Return a count (0 or more) or a share."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise wrong(f"{value} is below 0", "write a count or a share such as 25%")
        return value
    if isinstance(value, float):
        raise wrong(f"{value} is no count", "write a whole number, or a share such as 25%")
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        raise wrong(f"{show(value)} is text, not a count", f"write {int(value)}")
    if isinstance(value, str) and "%" in value:
        return parse_share(value)
    raise wrong(f"a count or a share was expected, found {show(value)}", "write 5 or 25%")


def parse_some(value: object) -> int | Share:
    """Return a count of at least 1, or a share."""
    amount = parse_amount(value)
    if amount == 0:
        raise wrong("0 is no size", "write a count of at least 1, or a share such as 25%")
    return amount


def parse_wave(value: object) -> int | Share | Literal["cover"]:
    """Return the size of a wave."""
    if isinstance(value, str) and value.isalpha():
        if value != "cover":
            raise wrong(f"{show(value)} is no size of a wave", "write 5, 25% or cover")
        return "cover"
    amount = parse_amount(value)
    if amount == 0:
        raise wrong("a wave of 0 servers never ends", "write at least 1, or a share such as 25%")
    return amount


_SHARE_SCHEMA: JsonSchemaValue = {
    "type": "string",
    "pattern": r"^\d{1,3}(\.\d{1,6})?\s?%$",
    "examples": ["25%"],
}
_COUNT_SCHEMA: JsonSchemaValue = {"type": "integer", "minimum": 0}
_SOME_SCHEMA: JsonSchemaValue = {"type": "integer", "minimum": 1}

Percent = Annotated[Share, PlainValidator(parse_share), WithJsonSchema(_SHARE_SCHEMA)]
Amount = Annotated[
    int | Share, PlainValidator(parse_amount), WithJsonSchema({"anyOf": [_COUNT_SCHEMA, _SHARE_SCHEMA]})
]
Some = Annotated[
    int | Share, PlainValidator(parse_some), WithJsonSchema({"anyOf": [_SOME_SCHEMA, _SHARE_SCHEMA]})
]
Wave = Annotated[
    int | Share | Literal["cover"],
    PlainValidator(parse_wave),
    WithJsonSchema({"anyOf": [_SOME_SCHEMA, _SHARE_SCHEMA, {"const": "cover"}]}),
]

# Names ------------------------------------------------------------------------------------------------

NAME_PATTERN = r"[a-z0-9][a-z0-9-]{0,63}"


def _legal_name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value):
        made = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:64]
        hint = "use a-z, 0-9 and -, at most 64, beginning with a letter or digit"
        raise wrong(f"{show(value)} is no name", f"{hint}: {made}" if made else hint)
    return value


Name = Annotated[
    str, AfterValidator(_legal_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}$"})
]


def one_of(what: str, *words: str) -> BeforeValidator:
    """Make a check that a value is one of *words*, with a guess at what was meant."""

    def check(value: object) -> object:
        if not isinstance(value, str) or value not in words:
            hint = suggest(value, words) if isinstance(value, str) else f"write {' or '.join(words)}"
            raise wrong(f"{show(value)} is no {what}", hint or f"there are: {', '.join(words)}")
        return value

    return BeforeValidator(check)


ATTRIBUTES = ("name", "availability_zone", "flavor", "image", "id")


def _attribute(value: str) -> str:
    if value not in ATTRIBUTES and not re.fullmatch(r"tag:.+", value):
        raise wrong(f"{show(value)} is no attribute of a server", suggest(value, (*ATTRIBUTES, "tag:KEY")))
    return value


def _order(value: str) -> str:
    return value if value == SHUFFLE else _attribute(value)


OrderKey = Annotated[
    str,
    AfterValidator(_order),
    WithJsonSchema({"anyOf": [{"enum": [*ATTRIBUTES, SHUFFLE]}, {"type": "string", "pattern": "^tag:.+"}]}),
]
"""An attribute to order by, or `SHUFFLE`."""
Attribute = Annotated[
    str,
    AfterValidator(_attribute),
    WithJsonSchema({"anyOf": [{"enum": list(ATTRIBUTES)}, {"type": "string", "pattern": "^tag:.+"}]}),
]
