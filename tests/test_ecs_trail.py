"""The audit trail of an ECS cloud: what is asked, what the traces say, in whichever form they come."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from ecs_support import JOB, PROJECT, SERVER, Script, answer, cloud

from fleet.cloud.ecs.trail import NAMES, Trace, wipes
from fleet.errors import Rejected

AT = datetime(2026, 12, 5, 20, 0, 3, 120000, UTC)
MILLIS = int(AT.timestamp() * 1000)


def trace(**fields: object) -> dict[str, object]:
    return {
        "trace_id": "t-1", "trace_name": "reinstallOsV2", "trace_rating": "normal", "resource_id": SERVER,
        "resource_name": "web-1", "user": {"id": "u", "name": "deploy"}, "code": "200", "time": MILLIS,
        "response": {"job_id": JOB},
    } | fields  # fmt: skip


def page(*traces: dict[str, object], marker: str | None = None) -> object:
    return answer(200, {"traces": list(traces), "meta_data": {"count": len(traces), "marker": marker}})


def read(*traces: dict[str, object]) -> list[tuple[object, ...]]:
    made = [Trace(**each) for each in traces]  # type: ignore[arg-type]
    return [(each.server, each.at, each.by, each.accepted, each.job) for each in wipes(made)]


async def test_every_name_is_asked_for_page_by_page() -> None:
    """Within a week at most, 200 a page, behind the marker; the service's own host."""
    script = Script(page(trace(), marker="m/1"), page(trace(trace_id="t-2", response={"job_id": "j2"})),
                    page(), page(), page())  # fmt: skip
    client = cloud(script)
    found = await client.trail([SERVER], datetime(2020, 1, 1, tzinfo=UTC))
    asked = [parse_qs(urlsplit(request.url).query) for request in script.sent]
    assert [query["trace_name"] for query in asked] == [[NAMES[0]], *([name] for name in NAMES)]
    assert urlsplit(script.sent[0].url).netloc == "cts.eu-de.example.com"
    assert urlsplit(script.sent[0].url).path == f"/v3/{PROJECT}/traces"
    assert asked[1]["next"] == ["m/1"]
    for query in asked:
        assert query["limit"] == ["200"]
        span = timedelta(milliseconds=int(query["to"][0]) - int(query["from"][0]))
        assert span == timedelta(days=7, minutes=5)
        assert (query["service_type"], query["resource_type"]) == (["ECS"], ["ecs"])
    assert {wipe.job for wipe in found.wipes} == {JOB, "j2"}
    assert found.back_to is not None


async def test_not_allowed_or_not_switched_on() -> None:
    with pytest.raises(Rejected):
        await cloud(Script(answer(403, {"error": {"code": "Pdp.0001", "message": "no"}}))).trail([], AT)


def test_request_and_result_are_one_wipe() -> None:
    result = trace(trace_id="t-2", time=MILLIS + 300_000, response={"job_id": JOB, "status": "SUCCESS"})
    assert read(result, trace()) == [(SERVER, AT, "deploy", True, JOB)]


def test_answers_and_users_come_as_text_too() -> None:
    text = trace(response=json.dumps({"job_id": JOB}), user=json.dumps({"name": "eva"}))
    assert read(text) == [(SERVER, AT, "eva", True, JOB)]
    assert read(trace(response="not JSON", user="eva", request_id="r")) == [(SERVER, AT, "eva", True, None)]


REFUSED = [
    {"code": "400", "trace_rating": "warning"},
    {"code": None, "trace_rating": "warning"},
    {"code": 409},
    {"code": "Ecs.0039", "trace_rating": "incident"},
]


@pytest.mark.parametrize("fields", REFUSED)
def test_what_was_refused_is_no_wipe(fields: dict[str, object]) -> None:
    (found,) = read(trace(response={"error": {"code": "x"}}, request_id="r", **fields))
    assert found[3] is False


def test_a_failed_job_was_accepted_all_the_same() -> None:
    """The result of a job that failed is rated a warning; the request was taken, and the disk may be gone."""
    result = trace(trace_rating="warning", code="Ecs.0605", response={"job_id": JOB, "status": "FAIL"})
    assert read(result)[0][3] is True


def test_two_requests_without_a_job_are_two() -> None:
    assert len(read(trace(response=None, request_id="a"), trace(response=None, request_id="b"))) == 2
    assert read(trace(resource_id="")) == []
