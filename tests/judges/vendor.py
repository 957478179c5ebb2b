"""The vendor's SDKs, taken apart: which operation a request is, and what their models take and give.

The SDK itself forgives everything: it passes over keys that it does not know, and makes a string of whatever
should have been one. `refusals` does neither.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from huaweicloudsdkcore.client import Client
from judgement import PROJECT_ID, Mismatch

SDKS = {
    "huaweicloudsdkecs.v2": "EcsClient",
    "huaweicloudsdkiam.v3": "IamClient",
    "huaweicloudsdkims.v2": "ImsClient",
    "huaweicloudsdkevs.v2": "EvsClient",
    "huaweicloudsdkas.v1": "AsClient",
    "huaweicloudsdkcbr.v1": "CbrClient",
    "huaweicloudsdkcts.v3": "CtsClient",
}
V3_QUOTA = (f"/v3/{PROJECT_ID}/os-quota-sets/", f"/v2/{PROJECT_ID}/os-quota-sets/")
"""The EVS API reference has this call as v2 and as v3, alike; the SDK has only v2, and we ask v3."""

_SIMPLE = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "object": object,
    "datetime": str,
    "date": str,
}


@dataclass(frozen=True)
class Operation:
    """One operation of a service, as its SDK has it."""

    sdk: str
    name: str
    client: Client
    request: type
    response: str
    method: str
    template: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """The path, with a group for each of its variables."""
        return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(self.template)))

    @property
    def literal(self) -> int:
        """How many parts of the path are fixed words."""
        return sum(not part.startswith("{") for part in self.template.split("/"))


@cache
def operations() -> tuple[Operation, ...]:
    """Return all operations of all the SDKs."""
    found = []
    for module, client_name in SDKS.items():
        package = importlib.import_module(module)
        kind = getattr(package, client_name)
        client = kind()
        for attribute in dir(kind):
            if not (named := re.fullmatch(r"_(\w+)_http_info", attribute)):
                continue
            documented = getattr(kind, named[1]).__doc__ or ""
            request = getattr(package, re.search(r":type request: :class:`[\w.]*?(\w+)`", documented)[1])
            info = getattr(kind, attribute)(request())
            found.append(
                Operation(
                    module.split(".")[0].removeprefix("huaweicloudsdk"),
                    named[1],
                    client,
                    request,
                    info["response_type"],
                    info["method"],
                    info["resource_path"].rstrip("/"),
                )
            )
    return tuple(found)


def candidates(method: str, path: str) -> list[Operation]:
    """Return the operations that a request can be, those with the most fixed words only."""
    found = [each for each in operations() if each.method == method and each.pattern.fullmatch(path)]
    most = max((each.literal for each in found), default=0)
    return [each for each in found if each.literal == most]


def refusals(client: Client, data: Any, kind: str, where: str, *, nulls: bool) -> Iterator[str]:
    """Say what a model does not take of some JSON.

    Args:
        client: Whose models are meant.
        data: The JSON.
        kind: A type in the words of the SDK.
        where: For messages.
        nulls: Null stands for nothing; in requests it does not.
    """
    if data is None:
        yield from () if nulls else (f"{where} is null",)
    elif named := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(data, list):
            yield f"{where} is no list: {data!r}"
            return
        for place, item in enumerate(data):
            yield from refusals(client, item, named[1], f"{where}[{place}]", nulls=nulls)
    elif named := re.fullmatch(r"dict\(str, (.*)\)", kind):
        if not isinstance(data, dict):
            yield f"{where} is no object: {data!r}"
            return
        for key, item in data.items():
            yield from refusals(client, item, named[1], f"{where}.{key}", nulls=nulls)
    elif kind in _SIMPLE:
        yield from _of_simple(data, kind, where)
    else:
        yield from _of_model(client, data, kind, where, nulls=nulls)


def _of_simple(data: Any, kind: str, where: str) -> Iterator[str]:
    right = isinstance(data, _SIMPLE[kind]) and not (isinstance(data, bool) and kind in {"int", "float"})
    if right and kind in {"datetime", "date"}:
        try:
            datetime.fromisoformat(data)
        except ValueError:
            right = False
    if not right:
        yield f"{where} should be {kind}: {data!r}"


def _of_model(client: Client, data: Any, kind: str, where: str, *, nulls: bool) -> Iterator[str]:
    model = getattr(client.model_package, kind)
    if not model.openapi_types:  # one of some words
        words = {value for name, value in vars(model).items() if name.isupper() and isinstance(value, str)}
        if words and data not in words:
            yield f"{where} should be one of {sorted(words)}: {data!r}"
        return
    if not isinstance(data, dict):
        yield f"{where} is no {kind}: {data!r}"
        return
    known = {key: model.openapi_types[name] for name, key in model.attribute_map.items()}
    for key, item in data.items():
        if key not in known:
            yield f"{where}.{key} is unknown to {kind}"
        else:
            yield from refusals(client, item, known[key], f"{where}.{key}", nulls=nulls)


@dataclass(frozen=True)
class Sent:
    """A request, as it goes over the wire."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: Any


def ours(exchange: dict[str, Any], body: bytes) -> Sent:
    """Return a recorded request."""
    url = urlsplit(exchange["url"])
    query = tuple(sorted(parse_qsl(url.query, keep_blank_values=True)))
    return Sent(exchange["method"], url.path, query, json.loads(body) if body else None)


def theirs(operation: Operation, sent: Sent) -> tuple[Sent, list[str]]:
    """Read a request with the SDK's models, and write it again as the SDK does; say what it did not take."""
    client, model = operation.client, operation.request
    attributes: dict[str, Any] = {}
    problems: list[str] = []
    attribute_of = {key: name for name, key in model.attribute_map.items()}
    matched = operation.pattern.fullmatch(sent.path)
    if matched is None:
        raise Mismatch(f"{sent.path} is no {operation.template}")
    for name, value in matched.groupdict().items():
        if name != "project_id":
            attributes[attribute_of[name]] = unquote(value)
    for key, value in sent.query:
        name = attribute_of.get(key)
        if name is None:
            problems.append(f"the query's {key} is unknown")
        elif model.openapi_types[name] == "int" and not value.isdigit():
            problems.append(f"the query's {key} should be int: {value!r}")
        else:
            attributes[name] = int(value) if model.openapi_types[name] == "int" else value
    if sent.body is not None:
        if "body" not in model.openapi_types:
            problems.append("there should be no body")
        else:
            kind = model.openapi_types["body"]
            problems += refusals(client, sent.body, kind, "body", nulls=False)
            if not problems:
                attributes["body"] = client._deserialize(sent.body, kind)
    elif "body" in model.openapi_types:
        problems.append("there should be a body")
    info = getattr(client, f"_{operation.name}_http_info")(model(**attributes))
    path = client._parse_path_params(
        info["collection_formats"], info["path_params"], info["resource_path"], {"project_id": PROJECT_ID}
    )
    query = client._parse_query_params(info["collection_formats"], info["query_params"])
    body = client._parse_body(info["body"], info["post_params"])
    made = tuple(sorted((key, str(value)) for key, value in query))
    return Sent(info["method"], path, made, json.loads(body) if body else None), problems


def answer(operation: Operation, data: Any) -> Any:
    """Make the SDK's object of an answer, as its client does."""
    return operation.client._deserialize(data, operation.response)
