"""Claims as tags: how they are written and read, what is sent, and what the built-in cloud makes of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ecs_support import PROJECT, SERVER, Script, answer, cloud
from test_simulator_face import P, code_of, logged_in

from fleet.clock import run_virtual
from fleet.cloud.api import CanTag
from fleet.cloud.ecs import parse
from fleet.cloud.simulator.things import ServerSpec
from fleet.core.claimtag import MAX_VALUE, PREFIX, claim_tag, read, sort_out, yields
from fleet.core.doubt import differences, may_wipe
from fleet.core.edits import edits
from fleet.core.events import Member
from fleet.core.model import Call, ServerId
from fleet.core.select import matches, removed_by
from fleet.core.settings import CloudSettings, Select, Settings, Target
from fleet.core.state import ServerState
from fleet.errors import NotFound, OutcomeUnknown, PlanError, Rejected, Unavailable
from fleet.plan import load_plan

RUN = "web-tier-20261205T200000Z-7k3f"
NIGHT_TWO = datetime(2026, 12, 7, 1, 0, 30, tzinfo=UTC)


# -- writing and reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["bastion-1", "bastion.example.com", "a" * 80, "müller's laptop", "", "-"])
@pytest.mark.parametrize("life", [1, 999])
def test_a_claim_can_be_read_again_and_fits_the_strictest_cloud(host: str, life: int) -> None:
    made = claim_tag(RUN, life, host, "0123456789abcdef", NIGHT_TWO)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,36}", made.key)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", made.value())
    assert len(made.value()) <= MAX_VALUE
    found = read(made.key, made.value())
    assert found is not None
    assert (found.run, found.life) == ("20261205T200000Z-7k3f", life)
    assert found.since == NIGHT_TWO.replace(second=0)
    assert made.host.startswith(found.host)


def test_whoever_finds_it_reads_who_where_and_since_when() -> None:
    made = claim_tag(RUN, 2, "bastion-1.example.com", "ab", NIGHT_TWO)
    assert str(read(made.key, made.value())) == (
        "run …-20261205T200000Z-7k3f on bastion-1 since 2026-12-07 01:00Z"
    )


@pytest.mark.parametrize("value", ["", "x", "20261305T200000Z-7k3f_1_0_h", "20261205T200000Z-7k3f_1_0", "é"])
def test_what_cannot_be_read_is_somebody_elses(value: str) -> None:
    assert read(PREFIX + "a", value) is None
    found = sort_out({PREFIX + "a": value}, RUN, 9, "mine")
    assert found.others
    assert not found.earlier


def test_whose_claims_are_whose() -> None:
    def claim(nonce: str, run: str = RUN, life: int = 2, host: str = "here") -> dict[str, str]:
        made = claim_tag(run, life, host, nonce, NIGHT_TWO)
        return {made.key: made.value()}

    own = claim("own")
    [key] = own
    assert sort_out({}, RUN, 2, key) == sort_out({}, RUN, 2, None)
    assert sort_out(own, RUN, 2, key).held
    assert sort_out(own, RUN, 2, key).others == ()
    earlier = sort_out(own | claim("old", life=1, host="elsewhere"), RUN, 2, key)
    assert (earlier.earlier, earlier.others) == ((PREFIX + "old",), ())
    # A copy of the journal that somebody goes on with elsewhere is another run to us, and a later life too.
    assert sort_out(own | claim("copy"), RUN, 2, key).others
    assert sort_out(own | claim("later", life=3), RUN, 2, key).others
    assert sort_out(claim("x", run="other-20261205T200000Z-8888"), RUN, 2, None).others


def test_of_two_at_the_same_time_one_gives_way() -> None:
    both = {PREFIX + "a": "", PREFIX + "b": ""}
    assert [yields(key, both) for key in sorted(both)] == [False, True]
    assert not yields(PREFIX + "a", {PREFIX + "a": ""})


# -- a claim is no tag ----------------------------------------------------------------------------------


def test_a_claim_counts_in_no_selection_protection_or_comparison() -> None:
    body = {"server": {"id": SERVER, "name": "web-1", "tags": ["role=web", f"{PREFIX}ab=v", f"{PREFIX}cd"]}}
    seen = parse.server(json.dumps(body).encode(), ServerId(SERVER))
    assert seen.tags == {"role": "web"}
    assert seen.claims == {f"{PREFIX}ab": "v", f"{PREFIX}cd": ""}
    for key in seen.claims:
        assert matches(Select(tags={key: ()}), seen) is not None
        assert removed_by(Select(tags={key: ()}), seen) is None
    member = Member(
        id=ServerId(SERVER),
        name="web-1",
        target="t",
        wave=1,
        call=Call.REINSTALL_CLOUD_INIT,
        tags={"role": "web"},
    )
    assert differences(member, None, seen) == []
    settings = Settings(
        plan="p",
        digest="",
        folder="/",
        cloud=CloudSettings(provider="ecs"),
        targets=(Target(name="t", select=Select(tags={"role": ("web",)})),),
    )
    why = may_wipe(ServerState(member), seen, settings, settings.targets[0])
    assert "tag" not in (why or "")


# -- what is sent ---------------------------------------------------------------------------------------


async def tag(script: Script, **tags: str) -> None:
    client = cloud(script)
    assert isinstance(client, CanTag)
    await client.tag(ServerId(SERVER), tags)


def test_what_is_sent() -> None:
    script = Script(answer(204))
    run_virtual(tag(script, a="1", b="2"))
    [sent] = script.sent
    assert sent.method == "POST"
    assert sent.url.endswith(f"/v1/{PROJECT}/cloudservers/{SERVER}/tags/action")
    tags = [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]
    assert json.loads(sent.body or b"") == {"action": "create", "tags": tags}
    script = Script(answer(204))
    run_virtual(cloud(script).untag(ServerId(SERVER), ["a"]))
    assert json.loads(script.sent[0].body or b"") == {"action": "delete", "tags": [{"key": "a"}]}


@pytest.mark.parametrize(
    ("first", "raised"),
    [
        (answer(500), None),
        (answer(502, b"<html>"), None),
        (answer(429), None),
        (answer(409), None),
        (answer(501, {"error": {"code": "Ecs.0603", "message": "unstable"}}), None),
        (OutcomeUnknown("broke"), None),
        (answer(404, b"<html>"), None),
        (answer(404, {"error": {"code": "Ecs.0114", "message": ""}}), NotFound),
        (answer(400, {"error": {"code": "Ecs.0905", "message": "too many"}}), Rejected),
        (answer(403, {"error": {"code": "Pdp.0001", "message": "no"}}), Rejected),
    ],
)
def test_what_becomes_of_an_answer(first: Any, raised: type[Exception] | None) -> None:
    """Safe to repeat, so it is; also where nobody knows whether it was done."""
    script = Script(first, answer(204))
    if raised is None:
        run_virtual(tag(script, a="1"))
        assert len(script.sent) == 2
        return
    with pytest.raises(raised) as caught:
        run_virtual(tag(script, a="1"))
    assert len(script.sent) == 1
    assert isinstance(caught.value, Rejected)
    assert caught.value.everybody is (first.status == 403)


def test_it_is_not_repeated_for_ever() -> None:
    script = Script(answer(500))
    with pytest.raises(Unavailable):
        run_virtual(tag(script, a="1"))


# -- the built-in cloud ---------------------------------------------------------------------------------


def test_the_built_in_cloud_tags() -> None:
    client = logged_in(ServerSpec(name="web-1", tags=("role=web", "flag", "_sys=1")))
    server = client.world.named("web-1")
    path = f"/v1/{P}/cloudservers/{server.id}/tags/action"

    def act(action: str, *tags: tuple[str, str]) -> tuple[int, Any]:
        body = {"action": action, "tags": [{"key": key, "value": value} for key, value in tags]}
        return client.ask("POST", path, body)

    assert client.listed("?tags=fleet-run-a") == (0, [])
    assert act("create", ("fleet-run-a", "v"), ("role", "db"))[0] == 204
    assert client.listed("?tags=fleet-run-a") == (1, ["web-1"]), "lists know it at once"
    assert server.tags == ["role=db", "flag", "_sys=1", "fleet-run-a=v"], "a new value overwrites"
    assert act("delete", ("fleet-run-a", "another value"), ("nobody", ""))[0] == 204
    assert server.tags == ["role=db", "flag", "_sys=1"]
    assert act("create", *((f"k{number}", "") for number in range(8)))[0] == 204
    status, body = act("create", ("one-too-many", ""))
    assert (status, code_of(body)) == (400, "Ecs.0905")
    for key, value in (("a.b", ""), ("k" * 37, ""), ("a", "1.2"), ("a", "v" * 44), ("a", "x@y")):
        status, body = act("create", (key, value))
        assert (status, code_of(body)) == (400, "Ecs.0089")
    assert client.ask("POST", path, {"action": "destroy", "tags": []})[0] == 400
    assert client.ask("POST", path.replace(server.id, "nobody"), {"action": "create", "tags": []})[0] == 404
    assert [entry.accepted for entry in client.world.ledger.calls("tag")].count(True) == 3


def test_a_claim_is_as_old_as_it_says() -> None:
    made = claim_tag(RUN, 1, "h", "n", NIGHT_TWO - timedelta(days=400))
    assert made.value().split("_")[2] == "0", "a clock behind the run's own start: no negative numbers"


# -- the plan -------------------------------------------------------------------------------------------


def test_a_plan_may_ask_for_it_and_change_its_mind(tmp_path: Path) -> None:
    plan = tmp_path / "p.yaml"
    text = "cloud: {provider: simulator}\nkey_pair: k\nselect: {name: web-1}\n"
    plan.write_text(text)
    without = load_plan(plan)
    assert without.settings.claim is False
    plan.write_text(f"{text}claim: true\n")
    with_claims = load_plan(plan)
    assert with_claims.settings.claim is True
    fixed, pacing = edits(without.settings, with_claims.settings)
    assert (fixed, len(pacing)) == ([], 1)
    plan.write_text(f"{text}claim: 1\n")
    with pytest.raises(PlanError):
        load_plan(plan)
