"""Answers of any quality become a model's value or a `BadAnswer`, never anything else."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from ecs_support import JOB, SERVER
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.cloud.ecs import classify, parse
from fleet.cloud.http import Response
from fleet.core.model import Disk, Image, Job, JobStatus, KeyPair, Server
from fleet.errors import CloudError
from fleet.secrets import register

FULL = {
    "id": SERVER,
    "name": "web-01",
    "status": "ACTIVE",
    "OS-EXT-STS:vm_state": "active",
    "OS-EXT-STS:task_state": None,
    "OS-EXT-STS:power_state": 1,
    "fault": None,
    "locked": False,
    "created": "2026-01-13T07:03:44Z",
    "updated": "2026-01-13T07:06:51Z",
    "OS-SRV-USG:launched_at": "2026-01-13T07:04:09.197749",
    "key_name": "KeyPair-d750",
    "image": {"id": "image-now"},
    "flavor": {"id": "s3.large.2", "vcpus": "2"},
    "addresses": {
        "vpc-1": [
            {"version": "4", "addr": "192.168.1.100", "OS-EXT-IPS:type": "fixed"},
            {"version": "4", "addr": "192.168.1.99", "primary": True, "OS-EXT-IPS:type": "fixed"},
            {"version": "4", "addr": "80.158.0.7", "OS-EXT-IPS:type": "floating"},
        ]
    },
    "security_groups": [{"id": "6505", "name": "sg-web"}],
    "os-extended-volumes:volumes_attached": [
        {"id": "disk-a", "device": "/dev/vda", "bootIndex": "0", "delete_on_termination": "false"},
        {"id": "disk-b", "device": "/dev/vdb", "bootIndex": "-1"},
    ],
    "OS-EXT-AZ:availability_zone": "eu-de-01",
    "metadata": {"metering.image_id": "image-original", "charging_mode": "0", "vpc_id": "vpc-1"},
    "tags": ["role=web", "env=prod", "formula=a=b", "_sys_flag"],
    "sys_tags": [{"key": "_sys_enterprise_project_id", "value": "ep-7"}],
    "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda",
    "OS-EXT-SRV-ATTR:user_data": "Y2hwYXNzd2Q=",
}


def parsed(**changes):
    raw = {key: value for key, value in (FULL | changes).items() if value != "absent"}
    return parse.server(json.dumps({"server": raw}).encode(), SERVER)


def test_a_whole_server():
    assert parsed() == Server(
        id=SERVER,
        name="web-01",
        status="ACTIVE",
        vm_state="active",
        power=1,
        image="image-original",
        flavor="s3.large.2",
        zone="eu-de-01",
        key_pair="KeyPair-d750",
        enterprise_project="ep-7",
        disks=(
            Disk("disk-a", system=True, device="/dev/vda"),
            Disk("disk-b", system=False, device="/dev/vdb"),
        ),
        addresses=("192.168.1.99", "192.168.1.100"),
        public_addresses=("80.158.0.7",),
        vpcs=("vpc-1",),
        tags={"role": "web", "env": "prod", "formula": "a=b", "_sys_flag": ""},
        security_groups=("sg-web",),
        created="2026-01-13T07:03:44Z",
        updated="2026-01-13T07:06:51Z",
        launched_at="2026-01-13T07:04:09.197749",
    )


def test_a_server_of_which_only_the_id_is_known():
    assert parse.server(json.dumps({"server": {"id": SERVER}}).encode(), SERVER) == Server(id=SERVER)


@pytest.mark.parametrize("others", [0, 9], ids=["a list by id", "everybody's page"])
def test_only_who_has_changed_is_made_anew(others):
    """And whoever was not asked for is not made at all; whose JSON changed by a byte is looked at again."""
    raw = [FULL | {"id": f"s{number}", "name": f"n{number}"} for number in range(3 + others)]
    asked = {"s0", "s1"}
    before = parse.page(json.dumps({"servers": raw}).encode(), asked)
    raw[1] = raw[1] | {"status": "SHUTOFF"}
    again = parse.page(json.dumps({"servers": raw, "count": 3}).encode(), asked, before.made_from)
    assert again.ids == [each["id"] for each in raw]
    assert [each.id for each in again.servers] == ["s0", "s1"]
    assert again.servers[0] is before.servers[0]
    assert again.servers[1].status == "SHUTOFF"
    assert before.servers[1].status != "SHUTOFF"
    assert list(again.made_from.values()) == again.servers


def volumes(*items, root="/dev/vda"):
    return parsed(
        **{"os-extended-volumes:volumes_attached": list(items), "OS-EXT-SRV-ATTR:root_device_name": root}
    )


@pytest.mark.parametrize(
    ("items", "system"),
    [
        ([{"id": "a", "bootIndex": 0}, {"id": "b", "bootIndex": -1}], "a"),
        ([{"id": "b", "bootIndex": "1"}, {"id": "a", "bootIndex": " 0 "}], "a"),
        ([{"id": "a", "device": "/dev/vda"}, {"id": "b", "device": "/dev/vdb"}], "a"),
        ([{"id": "b", "device": "/dev/vda", "bootIndex": "-1"}], None),
        ([{"id": "b", "device": "/dev/vda"}, {"id": "a", "device": "/dev/vdb", "bootIndex": "0"}], "a"),
        ([{"id": "a"}, {"id": "b"}], None),
        ([{"id": "a", "bootIndex": False}], None),
        ([{"id": "a", "bootIndex": "0"}, {"id": "b", "bootIndex": "0"}], None),
        ([{"bootIndex": "0"}, None, "x"], None),
        ([], None),
    ],
)
def test_which_disk_is_the_system_disk(items, system):
    assert volumes(*items).system_disk == system


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"status": "BRAND_NEW"}, "status", "BRAND_NEW"),
        ({"status": None}, "status", "UNKNOWN"),
        ({"OS-EXT-STS:task_state": "powering-off"}, "task", "powering-off"),
        ({"locked": "True"}, "locked", True),
        ({"metadata": {"EcmResStatus": "freeze"}}, "unfit", ("frozen",)),
        ({"metadata": {"EcmResStatus": "normal"}}, "unfit", ()),
        ({"metadata": {"lockSource": "ORDER"}}, "unfit", ("order lock: its billing is being changed",)),
        ({"metadata": {"virtual_env_type": "IsoImage"}}, "unfit", ("built from an ISO image",)),
        ({"flavor": {"id": "d2.xlarge.8"}}, "unfit", ("flavor d2.xlarge.8 cannot be reinstalled",)),
        ({"metadata": {"charging_mode": "2"}}, "spot", True),
        ({"metadata": None}, "image", "image-now"),
        ({"tags": ["__type_baremetal"]}, "bare_metal", True),
        ({"tags": [{"key": "role", "value": "web"}, {"key": 7}, 7, ""]}, "tags", {"role": "web"}),
        ({"enterprise_project_id": "0"}, "enterprise_project", "0"),
        ({"fault": {"code": 500, "message": "No\x1b[2J valid\nhost"}}, "fault", "No [2J valid host"),
        ({"OS-EXT-STS:power_state": "4"}, "power", 4),
    ],
)
def test_odd_fields(change, field, value):
    assert getattr(parsed(**change), field) == value


def test_user_data_never_becomes_an_object():
    assert "Y2hwYXNzd2Q" not in repr(parsed())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"status": "INIT"}, Job(id=JOB, status=JobStatus.RUNNING)),
        ({"status": "SOMETHING"}, Job(id=JOB, status=JobStatus.RUNNING)),
        (
            {"job_id": JOB, "status": "SUCCESS", "error_code": None, "entities": {"server_id": "s"}},
            Job(id=JOB, status=JobStatus.SUCCESS, servers={"s": JobStatus.SUCCESS}),
        ),
        (
            {
                "status": "FAIL",
                "error_code": "Ecs.0202",
                "fail_reason": "no disk",
                "entities": {"server_id": "s"},
            },
            Job(
                id=JOB,
                status=JobStatus.FAIL,
                servers={"s": JobStatus.FAIL},
                code="Ecs.0202",
                reason="no disk",
            ),
        ),
        ({"status": "FAIL"}, Job(id=JOB, status=JobStatus.FAIL, reason="job status FAIL")),
        (
            {"status": "PENDING_PAYMENT"},
            Job(id=JOB, status=JobStatus.FAIL, reason="the order waits for its payment"),
        ),
        (
            {
                "status": "FAIL",
                "error_code": "Common.0021",
                "fail_reason": "Sub job fail!",
                "entities": {
                    "sub_jobs_total": 2,
                    "sub_jobs": [
                        {"status": "SUCCESS", "entities": {"server_id": "a"}},
                        {
                            "status": "FAIL",
                            "error_code": "Ecs.0226",
                            "entities": {"server_id": "b", "errorcode_message": "no start"},
                        },
                        None,
                    ],
                },
            },
            Job(
                id=JOB,
                status=JobStatus.FAIL,
                servers={"a": JobStatus.SUCCESS, "b": JobStatus.FAIL},
                code="Ecs.0226",
                reason="no start",
            ),
        ),
        ({"status": "RUNNING", "entities": {}, "end_time": ""}, Job(id=JOB, status=JobStatus.RUNNING)),
    ],
)
def test_jobs(raw, expected):
    assert parse.job(json.dumps(raw).encode(), JOB) == expected


@pytest.mark.parametrize("raw", [{}, [], "x", {"status": None}, {"status": "SUCCESS", "job_id": "another"}])
def test_what_is_no_job(raw):
    with pytest.raises(parse.BadAnswer):
        parse.job(json.dumps(raw).encode(), JOB)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, Image(id="i")),
        ({"__support_fc_inject": "True"}, Image(id="i", cloud_init=False)),
        ({"__support_fc_inject": "false", "__os_type": "Windows"}, Image(id="i", os_type="Windows")),
        ({"status": "queued"}, Image(id="i", fit="status queued")),
        ({"status": "active", "virtual_env_type": "FusionCompute", "__isregistered": "true"}, Image(id="i")),
        ({"virtual_env_type": "DataImage"}, Image(id="i", fit="a data disk image")),
        ({"virtual_env_type": "Ironic"}, Image(id="i", fit="a bare-metal image")),
        ({"__isregistered": "false"}, Image(id="i", fit="not registered")),
    ],
)
def test_images(raw, expected):
    assert parse.image(json.dumps({"id": "i"} | raw).encode(), "i") == expected


def test_key_pairs():
    body = json.dumps(
        {"keypair": {"name": "k", "user_id": "u", "fingerprint": "f", "public_key": "p"}}
    ).encode()
    assert parse.key_pair(body, "k") == KeyPair(name="k", user_id="u", fingerprint="f")
    with pytest.raises(parse.BadAnswer):
        parse.key_pair(body, "another")


READERS = [
    parse.page,
    lambda body: parse.server(body, SERVER),
    lambda body: parse.job(body, JOB),
    parse.job_id,
    lambda body: parse.image(body, "i"),
    lambda body: parse.key_pair(body, "k"),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>please log in</html>",
        b"\xff\xfe\x00",
        b'{"server": {"id": "\xff"}}',
        b"[" * 1_000_000,
        b'{"server":' * 100_000,
        b'{"servers": [], "count": 1' + b"0" * 5000 + b"}",
        b'{"status": 1e999}',
        b'"' + b"x" * 10_000_000 + b'"',
        b"null",
        b"7",
        b"{",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_bodies_that_are_no_answer(read, body):
    with pytest.raises(parse.BadAnswer) as caught:
        read(body)
    assert len(str(caught.value)) < 500
    assert caught.value.__cause__ is None


def test_a_long_list_is_read():
    body = json.dumps(
        {"count": 5000, "servers": [FULL | {"id": f"s-{n}", "x": "y" * 2000} for n in range(5000)]}
    ).encode()
    servers, count = (page := parse.page(body)).servers, page.count
    assert len(body) > 10_000_000
    assert (len(servers), count) == (5000, 5000)


# Anything, anywhere

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
JOB_BODY = {
    "job_id": JOB,
    "status": "FAIL",
    "error_code": "x",
    "fail_reason": "y",
    "entities": {"server_id": "s", "sub_jobs": [{"status": "FAIL", "entities": {"server_id": "t"}}]},
}
BODIES = [
    {"server": FULL},
    {"servers": [FULL], "count": 1},
    JOB_BODY,
    {"id": "i", "status": "active", "virtual_env_type": "x", "__isregistered": "true", "__os_type": "Linux"},
    {"keypair": {"name": "k", "user_id": "u"}},
    {
        "error": {
            "code": "Ecs.0100",
            "message": 'm {"code": "x"}',
            "details": [{"code": "Ecs.0001", "message": "d"}],
        }
    },
]


@st.composite
def spoiled(draw):
    """One of the bodies with anything in any place."""

    def walk(value):
        if draw(st.integers(0, 9)) == 0:
            return draw(anything)
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items() if draw(st.integers(0, 15))}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return value

    return json.dumps(walk(draw(st.sampled_from(BODIES)))).encode()


@settings(max_examples=400, deadline=None)
@given(body=spoiled() | st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_a_value_or_a_bad_answer(body):
    for read in READERS:
        try:
            value = read(body)
        except parse.BadAnswer:
            continue
        assert value is None or isinstance(value, Server | Job | Image | KeyPair | parse.Page | str)


@settings(max_examples=300, deadline=None)
@given(
    body=spoiled() | st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()),
    status=st.integers(200, 599),
    purpose=st.sampled_from(classify.Purpose),
    wait=st.text(max_size=30),
)
def test_any_error_answer_is_an_error_of_ours(body, status, purpose, wait):
    response = Response(status, {"retry-after": wait, "date": wait}, body)

    error = classify.error(response, purpose, "what", now=datetime(2026, 12, 5, tzinfo=UTC))

    assert isinstance(error, CloudError)
    assert len(error.message) < 1000
    assert "\n" not in error.message


def test_texts_of_the_cloud_are_cut_cleaned_and_redacted():
    register("secret-in-a-message")

    text = parse.clean("a\x00b\x1b[1m\r\nc\u202e secret-in-a-message " + "x" * 5000)

    assert text.startswith("a b [1m c [secret] xxx")
    assert len(text) == 300
    assert parse.clean("x" * 250 + "secret-in-a-message" * 10).count("secret-in") == 0
    assert parse.clean(None) == parse.clean(7) == ""
