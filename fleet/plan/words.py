"""More words of a plan: name patterns, tags, networks, times, URLs, commands.

As in `fleet.plan.fields`, each says in our own sentence what is wrong. A URL is never repeated in a message:
people put credentials there.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from fleet.core.facts import FIELDS, placeholders
from fleet.plan.fields import one_of, show, suggest, wrong

# Selecting --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A glob, or a regular expression, for the whole of a server's name."""

    text: str
    is_regex: bool = False


def parse_name_pattern(value: object) -> NamePattern:
    """Return the pattern of ``web-*`` or ``{regex: web-[0-9]+}``."""
    if isinstance(value, dict) and set(value) == {"regex"} and isinstance(value["regex"], str):
        value = value["regex"]
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            place = getattr(error, "pos", None)
            said = getattr(error, "msg", "too big")
            at = f" at character {place + 1}" if isinstance(place, int) else ""
            raise wrong(
                f"{show(value)} is no regular expression: {said}{at}", "a glob such as web-* may do"
            ) from None
        return NamePattern(value, is_regex=True)
    if isinstance(value, str) and value:
        return NamePattern(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise wrong(f"{value} is a number here, not a name", f'put it in quotes: "{value}"')
    raise wrong(
        f"a name was expected, found {show(value)}", 'write a glob such as "web-*", or {regex: "web-[0-9]+"}'
    )


NameGlob = Annotated[
    NamePattern,
    PlainValidator(parse_name_pattern),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "properties": {"regex": {"type": "string", "description": "For the whole name"}},
                    "required": ["regex"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


def parse_tag_values(value: object) -> tuple[str, ...]:
    """Return a tag's allowed values; nothing for ``"*"`` and null: the tag is there."""
    if value is None or value == "*":
        return ()
    if value == []:
        raise wrong("an empty list matches nothing", 'name the values, or write "*": the tag is there')
    values = value if isinstance(value, list) else [value]
    for one in values:
        if not isinstance(one, str):
            raise wrong(
                f"a tag's value is text, found {show(one)}",
                'write text, a list of texts, or "*": the tag is there'
                if isinstance(one, list | dict | None)
                else f'put it in quotes: "{show(one)}"',
            )
        if one == "*":
            raise wrong('"*" among other values means nothing', 'write "*" alone: the tag is there')
    return tuple(values)


TagValues = Annotated[
    tuple[str, ...],
    PlainValidator(parse_tag_values),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "null"},
            ]
        }
    ),
]


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        try:
            meant = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise wrong(f"{show(value)} is no address or network", "write 10.0.3.17 or 10.0.3.0/24") from None
        raise wrong(f"{value} has host bits set", f"write {meant}, or the address alone") from None
    return value


Network = Annotated[str, AfterValidator(_network)]

STATUSES = (
    "ACTIVE", "SHUTOFF", "ERROR", "BUILD", "REBUILD", "REBOOT", "HARD_REBOOT", "MIGRATING", "RESIZE",
    "REVERT_RESIZE", "VERIFY_RESIZE", "DELETED", "SOFT_DELETED", "SHELVED", "SHELVED_OFFLOADED",
    "PAUSED", "SUSPENDED", "UNKNOWN",
)  # fmt: skip
Status = Annotated[str, one_of("status of a server", *STATUSES), WithJsonSchema({"enum": list(STATUSES)})]

# Time -------------------------------------------------------------------------------------------------


def parse_moment(value: object) -> time | datetime:
    """Return a clock time (``22:00``) or a moment with its offset (``2026-12-05T20:00+01:00``)."""
    if not isinstance(value, str):
        raise wrong(f"a time was expected, found {show(value)}", 'write "22:00" or 2026-12-05T20:00+01:00')
    if clock := re.fullmatch(r"(\d{1,2}):(\d\d)", value, re.ASCII):
        if int(clock[1]) < 24 and int(clock[2]) < 60:
            return time(int(clock[1]), int(clock[2]))
        raise wrong(f"{show(value)} is no time of day", "write 00:00 to 23:59")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise wrong(f"{show(value)} is no time", 'write "22:00" or 2026-12-05T20:00+01:00') from None
    if moment.tzinfo is None:
        raise wrong(
            f"{show(value)} does not say in which time zone", "add the offset: …T20:00+01:00, or …T20:00Z"
        )
    return moment


Moment = Annotated[
    time | datetime,
    PlainValidator(parse_moment),
    WithJsonSchema({"type": "string", "examples": ["22:00", "2026-12-05T20:00+01:00"]}),
]


def _time_zone(value: str) -> str:
    known = zoneinfo.available_timezones()
    if value not in known:
        raise wrong(
            f"{show(value)} is no time zone", suggest(value, sorted(known)) or "write Europe/Berlin or UTC"
        )
    return value


TimeZone = Annotated[str, AfterValidator(_time_zone)]


def _dates(value: str) -> str:
    parts = value.split("/")
    if len(parts) > 2 or not all(re.fullmatch(r"\d{4}-\d\d-\d\d", part, re.ASCII) for part in parts):
        raise wrong(f"{show(value)} is no date", "write 2026-12-24 or 2026-12-24/2026-12-27")
    try:
        days = [date.fromisoformat(part) for part in parts]
    except ValueError as error:
        raise wrong(
            f"{show(value)} is no date: {error}", "write 2026-12-24 or 2026-12-24/2026-12-27"
        ) from None
    if days[0] > days[-1]:
        raise wrong(f"{value} ends before it begins", f"write {days[-1]}/{days[0]}")
    return value


Dates = Annotated[str, AfterValidator(_dates)]

# Addresses and commands -------------------------------------------------------------------------------

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _check_url(value: str, *, what: str) -> tuple[str, str]:
    """Return scheme and host. The URL itself is in no message: people put credentials there."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise wrong(f"this is no {what}", "write https://host/path") from None
    if parts.scheme not in {"http", "https"} or not host or re.search(r"[\s\x00-\x1f]", value):
        raise wrong(f"this is no {what}", "write https://host/path")
    if "@" in parts.netloc:
        raise wrong(
            f"this {what} carries a user or password", "a secret never stands in the plan: take it out"
        )
    return parts.scheme, host


def _url(value: str) -> str:
    _check_url(value, what="URL")
    return value


def _endpoint(value: str) -> str:
    scheme, host = _check_url(value, what="endpoint")
    if scheme != "https" and host not in _LOOPBACK:
        raise wrong(
            "plain http would send the token in the clear", "write https://…; http only for 127.0.0.1"
        )
    return value.rstrip("/")


def check_placeholders(text: str) -> str:
    """Refuse ``{server.…}`` names that do not exist."""
    for name in placeholders(text):
        if name not in FIELDS:
            raise wrong(f"{{server.{name}}} is not known", suggest(name, FIELDS))
    return text


def _server_url(value: str) -> str:
    check_placeholders(value)
    tried = value
    for name in placeholders(value):
        tried = tried.replace(f"{{server.{name}}}", "10.0.0.1" if name.endswith("_ip") else "x")
    if "{" in tried or "}" in tried:
        raise wrong("a brace stands in this URL", f"write {{server.NAME}}; {suggest('', FIELDS)}")
    _check_url(tried, what="URL")
    return value


_URL_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^https?://"})
Url = Annotated[str, AfterValidator(_url), _URL_SCHEMA]
Endpoint = Annotated[str, AfterValidator(_endpoint), _URL_SCHEMA]
ServerUrl = Annotated[str, AfterValidator(_server_url), _URL_SCHEMA]


_PORTS = {"ssh": 22, "http": 80, "https": 443, "rdp": 3389, "winrm": 5985}


def _port_number(value: object) -> object:
    if isinstance(value, str):
        number = int(value) if re.fullmatch(r"\d{1,5}", value, re.ASCII) else _PORTS.get(value.lower())
        raise wrong(f"a port is a number, found {show(value)}", f"write {number or 'its number, such as 22'}")
    return value


Port = Annotated[int, BeforeValidator(_port_number), Field(ge=1, le=65535)]


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        said = getattr(error, "msg", "too big")
        raise wrong(f"this is no regular expression: {said}", "plain words may do") from None
    return value


Regex = Annotated[str, AfterValidator(_regular_expression), Field(min_length=1)]


def parse_argv(value: object) -> tuple[str, ...]:
    """Return the words of a command. No shell is involved, so one text with blanks is a mistake."""
    if isinstance(value, str):
        if re.search(r"\s", value.strip()):
            raise wrong("a command is a list of words, no shell reads it", "write [./program, argument]")
        value = [value]
    if not isinstance(value, list) or not value:
        raise wrong(f"a command was expected, found {show(value)}", "write [./program, argument]")
    for word in value:
        if not isinstance(word, str):
            hint = f'put it in quotes: "{show(word)}"' if isinstance(word, int | float) else "write text"
            raise wrong(f"a command is a list of texts, found {show(word)} in it", hint)
        if "\0" in word:
            raise wrong("a NUL character stands in this command", "take it out")
        check_placeholders(word)
    if not value[0].strip():
        raise wrong("the command has no name", "write [./program, argument]")
    return tuple(value)


Command = Annotated[
    tuple[str, ...],
    PlainValidator(parse_argv),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\S+$"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]


def _environment_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise wrong(
            "this is no name of an environment variable", "write letters, digits and _: WEB_ADMIN_PASSWORD"
        )
    return value


EnvName = Annotated[str, AfterValidator(_environment_name)]
