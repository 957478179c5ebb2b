"""Signing: the vendor's published vectors, vectors of our own, and a cloud that checks with its own code."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cloud.ecs.signing import AccessKey, sign
from fleet.cloud.http import Request
from fleet.cloud.simulator import auth as judge

PROJECT = "0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = AccessKey("AKEXAMPLE0000000001", "SKexampleSecretKey000000000000000000001")
JSON = {"Content-Type": "application/json"}

# huaweicloud-sdk-python-v3, huaweicloud-sdk-core/tests/test_signer.py
SDK_KEY = AccessKey("AccessKey", "SecretKey")
SDK_NOW = datetime(2020, 6, 8, 2, 39, tzinfo=UTC)
SDK_URL = "https://service.endpoint.myhuaweicloud.com/resources?size=1"


@pytest.mark.parametrize(
    ("method", "body", "signature"),
    [
        ("GET", None, "cfb4171acec81de07d50e53d57eb77edd537414d66ddb1d7d780f128e12cd842"),
        (
            "POST",
            b'{"name":"test","id":1}',
            "436b1ac0a1ae03705934bb70ef2f2e09f7bfed2117d731a38235053199323a1f",
        ),
    ],
)
def test_the_vendors_own_vectors(method, body, signature):
    """A header with an underscore in its name is not signed; that is the vendor's rule."""
    request = Request(method, SDK_URL, {"TEST_UNDERSCORE": "TEST_VALUE"}, body)

    assert sign(request, SDK_KEY, SDK_NOW)["Authorization"] == (
        f"SDK-HMAC-SHA256 Access=AccessKey, SignedHeaders=host;x-sdk-date, Signature={signature}"
    )


ECS = "https://ecs.eu-de.otc.t-systems.com"
# Made with the vendor's Python signer 3.1.219, confirmed by a second implementation.
VECTORS = {
    "query": (
        Request(
            "GET",
            f"{ECS}/v1/{PROJECT}/cloudservers/detail?limit=100&not-tags=__type_baremetal&offset=1",
            JSON,
        ),
        None,
        "content-type;host;x-project-id;x-sdk-date",
        "c39ebac9548cd940093d0549adac07249b8244b0f658a52632e17faf9ed02815",
    ),
    "body": (
        Request(
            "POST",
            f"{ECS}/v2/{PROJECT}/cloudservers/616fb98f-46ca-475e-917e-2563e5a8cd19/reinstallos",
            JSON,
            b'{"os-reinstall":{"keyname":"KeyPair-350b","userid":"7e25b1da389f4697a79df3a0e5bd494e"}}',
        ),
        None,
        "content-type;host;x-project-id;x-sdk-date",
        "e77d9e253d72e81e2a6f8e64586d2866a7e4c277f51dca55c0ad9ec1d1f36b34",
    ),
    "escapes and a temporary key": (
        Request(
            "GET",
            f"https://ecs.cn-north-4.myhuaweicloud.com/v2.1/{PROJECT}/os-keypairs/my%20key%2B1"
            "?a=1&b=~x&tags=role%3Dweb%20a",
        ),
        "stsTokenExample==",
        "host;x-project-id;x-sdk-date;x-security-token",
        "f32f28ec3a86aa61c72dce8f34f2b574822c9ae242f8cd3cbc63de2e6813ee3f",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name):
    request, token, names, signature = VECTORS[name]

    made = sign(request, AccessKey(KEY.access, KEY.secret, token), NOW, project_id=PROJECT)

    assert made["Authorization"] == (
        f"SDK-HMAC-SHA256 Access={KEY.access}, SignedHeaders={names}, Signature={signature}"
    )
    assert made["X-Sdk-Date"] == "20260101T120000Z"
    assert made.get("X-Security-Token") == token


def test_the_time_is_utc_wherever_we_are():
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    request = VECTORS["query"][0]

    assert sign(request, KEY, there, project_id=PROJECT) == sign(request, KEY, NOW, project_id=PROJECT)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://ecs.eu-de.example.com:443/x", "ecs.eu-de.example.com"),
        ("https://ecs.eu-de.example.com:8443/x", "ecs.eu-de.example.com:8443"),
        ("http://127.0.0.1:80/x", "127.0.0.1"),
        ("http://[::1]:8090/x", "[::1]:8090"),
    ],
)
def test_the_host_is_signed_as_it_is_sent(url, host):
    """Catalogs write the usual port; clients do not send it."""
    assert sign(Request("GET", url), KEY, NOW)["Host"] == host


def test_an_account_in_the_place_of_a_project():
    made = sign(Request("GET", f"{ECS}/v3/projects"), KEY, NOW, domain_id="d1")

    assert made["X-Domain-Id"] == "d1"
    assert "X-Project-Id" not in made
    assert "SignedHeaders=host;x-domain-id;x-sdk-date," in made["Authorization"]


def test_secrets_are_in_no_repr():
    key = AccessKey("AK", "Canary-Secret-Key", "Canary-Security-Token")
    assert "Canary" not in repr(key)
    assert "AK" in repr(key)


TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs"]), max_size=12)
BODIES = st.none() | st.binary(max_size=40)


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    segments=st.lists(TEXTS.filter(lambda text: "/" not in text), max_size=5),
    query=st.lists(st.tuples(TEXTS, TEXTS), max_size=5),
    body=BODIES,
    token=st.none() | st.just("temporary"),
)
def test_a_cloud_with_code_of_its_own_agrees(method, segments, query, body, token):
    """And with any one thing changed on the way, it does not."""
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    asked = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    request = Request(method, f"{ECS}{path}?{asked}", JSON, body)
    made = sign(request, AccessKey("AK", "SK", token), NOW, project_id=PROJECT)
    names = made["Authorization"].split("SignedHeaders=")[1].split(",")[0]
    signature = made["Authorization"].rpartition("Signature=")[2]

    def as_seen(**changed):
        headers = {name.lower(): value for name, value in {**request.headers, **made}.items()}
        seen = {"method": method, "path": path, "query": asked, "body": body or b"", "headers": headers}
        signed = judge.SignedRequest(**{**seen, **changed})
        return judge.sign(judge.canonical_request(signed, names), made["X-Sdk-Date"], "SK")

    assert as_seen() == signature
    assert as_seen(body=(body or b"") + b"x") != signature
    assert as_seen(path=path + "x") != signature
    assert as_seen(query=f"{asked}&x=1") != signature
    headers = {name.lower(): value for name, value in {**request.headers, **made}.items()}
    assert as_seen(headers=headers | {"x-project-id": "another"}) != signature
    if token:
        assert as_seen(headers=headers | {"x-security-token": "another"}) != signature


def test_what_is_signed_is_json_that_can_be_sent():
    """The body is signed as bytes, whatever is in it."""
    one = sign(Request("POST", ECS, JSON, json.dumps({"a": "ä"}).encode()), KEY, NOW)
    other = sign(Request("POST", ECS, JSON, json.dumps({"a": "a"}).encode()), KEY, NOW)
    assert one["Authorization"] != other["Authorization"]
