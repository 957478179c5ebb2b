"""Logging in: once, in time, and never again with a password that was refused."""

from __future__ import annotations

import asyncio
import json

import pytest
from ecs_support import ECS, IAM, IMS, PROJECT, SERVER, TOKEN_BODY, USER, Script, answer, cloud

from fleet.clock import LoopClock, SystemClock, run_virtual
from fleet.cloud.ecs import provider
from fleet.cloud.ecs.auth import TokenLogin
from fleet.cloud.ecs.client import EcsCloud
from fleet.cloud.ecs.credentials import Password
from fleet.cloud.ecs.endpoints import Offer
from fleet.cloud.ecs.login import find, login_from_environment
from fleet.cloud.http import Request
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator import provider as simulator_provider
from fleet.core.settings import CloudSettings
from fleet.errors import CloudUnusable, NotSent, OutcomeUnknown, Unavailable
from fleet.secrets import redact

ENVIRONMENT = {
    "OS_AUTH_URL": f"{IAM}/v3",
    "OS_USERNAME": "deploy",
    "OS_PASSWORD": "Canary-Login-Passw0rd",
    "OS_USER_DOMAIN_NAME": "OTC0001",
    "OS_PROJECT_NAME": "eu-de",
}
ANY = Request("GET", f"{ECS}/v1/x")


def granted(token="MII-token-1", body=TOKEN_BODY):  # noqa: S107  # planted
    return answer(201, body, x_subject_token=token)


def login(script, **more):
    return TokenLogin(login_from_environment(ENVIRONMENT | more), script, LoopClock())


async def test_what_a_login_sends_and_learns():
    script = Script(granted())
    made = login(script)

    identity = (await made.logged_in()).identity

    (sent,) = script.sent
    assert (sent.method, sent.url) == ("POST", f"{IAM}/v3/auth/tokens")
    assert json.loads(sent.body) == {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {
                    "user": {
                        "name": "deploy",
                        "password": "Canary-Login-Passw0rd",
                        "domain": {"name": "OTC0001"},
                    }
                },
            },
            "scope": {"project": {"name": "eu-de"}},
        }
    }
    assert (identity.user_id, identity.project_id) == (USER, PROJECT)
    assert await made.headers(ANY) == {"X-Auth-Token": "MII-token-1"}


def test_ids_win_over_names():
    sent = json.loads(
        login_from_environment(ENVIRONMENT | {"OS_PROJECT_ID": "p", "OS_USER_DOMAIN_ID": "d"}).body()
    )

    assert sent["auth"]["scope"] == {"project": {"id": "p"}}
    assert sent["auth"]["identity"]["password"]["user"]["domain"] == {"id": "d"}


def test_older_names_are_understood():
    older = {k: v for k, v in ENVIRONMENT.items() if k not in {"OS_PROJECT_NAME", "OS_USER_DOMAIN_NAME"}}

    got = login_from_environment(older | {"OS_TENANT_NAME": "eu-de_web", "OS_DOMAIN_NAME": "OTC"})

    assert (got.project_name, got.domain_name) == ("eu-de_web", "OTC")


def test_everything_that_is_missing_is_named_at_once():
    with pytest.raises(CloudUnusable) as caught:
        login_from_environment({"OS_USERNAME": "deploy", "OS_PASSWORD": ""})

    assert caught.value.message == (
        "not set in the environment: OS_AUTH_URL, OS_PASSWORD, OS_USER_DOMAIN_NAME, OS_PROJECT_NAME"
    )
    assert "export" in (caught.value.hint or "")


@pytest.mark.parametrize("form", ["", "/", "/v3", "/v3/", "/v3/auth/tokens", ":443/v3"])
def test_usual_forms_of_the_url(form):
    assert login_from_environment(ENVIRONMENT | {"OS_AUTH_URL": IAM + form}).url.startswith(IAM)
    assert "/v3" not in login_from_environment(ENVIRONMENT | {"OS_AUTH_URL": IAM + form}).url


@pytest.mark.parametrize("form", ["iam.example.com", "https://", f"{IAM}/v2.0", "http://[x"])
def test_a_url_that_is_none(form):
    with pytest.raises(CloudUnusable, match="OS_AUTH_URL"):
        login_from_environment(ENVIRONMENT | {"OS_AUTH_URL": form})


def test_many_who_wait_log_in_once():
    async def story():
        script = Script(granted(), takes_s=1.0)
        made = login(script)
        got = await asyncio.gather(*(made.headers(ANY) for _ in range(50)))
        return len(script.sent), made.logins(), {tuple(headers.items()) for headers in got}

    assert run_virtual(story()) == (1, 1, {(("X-Auth-Token", "MII-token-1"),)})


def test_a_token_is_renewed_before_it_ends():
    """A day's token after 80 % of it; and an hour's."""

    async def story(hours):
        body = {
            "token": TOKEN_BODY["token"]
            | {"expires_at": f"2026-12-0{5 + hours // 24}T{(20 + hours) % 24}:00:00.0Z"}
        }
        script = Script(granted("MII-first", body), granted("MII-second", body))
        made = login(script)
        await made.headers(ANY)
        await asyncio.sleep(hours * 3600 * 0.79)
        early = await made.headers(ANY)
        await asyncio.sleep(hours * 3600 * 0.02)
        return early["X-Auth-Token"], (await made.headers(ANY))["X-Auth-Token"]

    assert run_virtual(story(24)) == ("MII-first", "MII-second")
    assert run_virtual(story(1)) == ("MII-first", "MII-second")


def test_a_renewal_that_fails_leaves_a_token_that_is_still_good():
    async def story():
        script = Script(granted(), answer(503))
        made = login(script)
        await made.headers(ANY)
        await asyncio.sleep(20 * 3600)
        still = await made.headers(ANY)
        await asyncio.sleep(4 * 3600)
        with pytest.raises(Unavailable):
            await made.headers(ANY)
        return still

    assert run_virtual(story()) == {"X-Auth-Token": "MII-token-1"}


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (401, {"error": {"code": 401, "message": "wrong", "title": "Unauthorized"}}, "OS_PASSWORD"),
        (401, {"error_code": "IAM.0061", "error_msg": "locked"}, "locked"),
        (403, {"error_code": "IAM.0081", "error_msg": "console only"}, "console"),
        (403, None, "OS_PROJECT_NAME"),
        (404, b"<html>", "OS_AUTH_URL"),
        (302, None, "OS_AUTH_URL"),
        (400, None, "OS_AUTH_URL"),
    ],
)
def test_a_refused_password_is_tried_once_in_the_life_of_the_process(status, body, hint):
    """Wrong passwords lock the account: all who wait, and who come later, get the same answer."""

    async def story():
        script = Script(answer(status, body), takes_s=1.0)
        client = cloud(script, login=login(script))
        got = await asyncio.gather(*(client.server(SERVER) for _ in range(50)), return_exceptions=True)
        with pytest.raises(CloudUnusable) as caught:
            await client.whoami()
        return len(script.sent), {type(error) for error in got}, caught.value.hint

    sent, kinds, said = run_virtual(story())
    assert (sent, kinds) == (1, {CloudUnusable})
    assert hint in said


@pytest.mark.parametrize(
    "reply",
    [
        answer(429, {"error_code": "IAM.0012"}),
        answer(503),
        answer(408),
        OutcomeUnknown("broke"),
        NotSent("refused"),
        answer(201, TOKEN_BODY),
        granted(body={"token": {}}),
        granted(body=[]),
        answer(200, b"<html>log in, please</html>"),
    ],
    ids=repr,
)
def test_a_login_without_an_answer_leaves_nothing_in_doubt(reply):
    """The reinstall that waits for it was provably not sent; and a read tries again."""

    async def story():
        script = Script(reply)
        with pytest.raises(Unavailable):
            await login(script).headers(ANY)
        script = Script(reply, granted())
        assert (await cloud(script, login=login(script)).whoami()).user_id == USER

    run_virtual(story())


def test_those_refused_with_one_token_renew_it_once():
    async def story():
        script = Script(granted("MII-old"), granted("MII-new"), takes_s=1.0)
        made = login(script)
        old = await made.headers(ANY)
        assert await asyncio.gather(*(made.renew(old) for _ in range(50))) == [True] * 50
        return len(script.sent), await made.headers(ANY)

    assert run_virtual(story()) == (2, {"X-Auth-Token": "MII-new"})


def test_a_cloud_that_refuses_every_token_ends_it():
    """Five renewals in a minute, and no more."""

    async def story():
        number = iter(range(1000))
        script = Script(lambda _: granted(f"MII-{next(number)}"))
        made = login(script)
        renewed = [await made.renew(await made.headers(ANY)) for _ in range(20)]
        return renewed.count(True), len(script.sent)

    assert run_virtual(story()) == (5, 6)


@pytest.mark.parametrize("path", ["", f"/v1/{PROJECT}", "/v2.1/x?y#z"])
def test_the_catalog_says_where_the_service_is(path):
    body = {
        "token": TOKEN_BODY["token"]
        | {
            "catalog": [
                None,
                {"type": "ecs", "endpoints": [{"interface": "admin", "url": "https://admin.example"}, 7]},
                {"type": "ecs", "endpoints": [{"region": "eu-nl", "url": "https://nl.example"}]},
                {
                    "type": "ecs",
                    "endpoints": [
                        {"region": "eu-de", "interface": "public", "url": f"https://de.example:443{path}"}
                    ],
                },
            ]
        }
    }

    async def story():
        script = Script(granted(body=body), answer(200, {"server": {"id": SERVER}}))
        endpoints = provider.Endpoints(IAM, {}, "eu-de")
        await cloud(script, login=login(script), endpoints=endpoints).server(SERVER)
        return script.sent[1].url

    assert run_virtual(story()) == f"https://de.example:443/v1/{PROJECT}/cloudservers/{SERVER}"


def test_another_regions_service_is_never_taken():
    """A plan for eu-de with a project of eu-nl: the same selector would find other servers there."""
    offers = (Offer("ecs", "eu-nl", "https://nl.example"), Offer("image", "eu-nl", "https://ims-nl.example"))
    there = provider.Endpoints(IAM, {}, "eu-de")

    with pytest.raises(CloudUnusable, match="not in region eu-de for this project, but in eu-nl") as caught:
        there.base("ecs", offers)
    assert "cloud.region" in caught.value.hint
    assert there.base("ims", offers) == IMS
    assert provider.Endpoints(IAM, {"ecs": "https://x.example"}, "eu-de").base("ecs", offers)
    assert provider.Endpoints(IAM, {}, "eu-nl").base("ecs", offers) == "https://nl.example"


def test_secrets_are_in_no_exception_and_no_repr():
    async def story():
        texts = []
        for reply in (
            answer(401, {"error_msg": "no Canary-Login-Passw0rd", "error_code": "x"}),
            granted(body=[]),
        ):
            made = login(Script(reply))
            try:
                await made.headers(ANY)
            except (CloudUnusable, Unavailable) as error:
                texts += [
                    str(error),
                    repr(error),
                    repr(vars(error)),
                    repr(error.__cause__),
                    repr(error.__context__),
                ]
            texts += [repr(made), repr(made._credentials)]
        made = login(Script(granted("MII-canary-token")))
        await made.headers(ANY)
        return [*texts, repr(made._token)]

    for text in run_virtual(story()):
        assert "Canary-Login-Passw0rd" not in text
        assert "MII-canary-token" not in text


# Providers


def settings(**more):
    return CloudSettings(provider="ecs", **more)


async def test_the_ecs_provider_does_nothing_until_it_is_asked(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    made = provider.ecs(settings(), SystemClock())

    assert isinstance(made, EcsCloud)
    assert made.calls() == {}
    await made.close()


def test_the_ecs_provider_without_credentials(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(CloudUnusable, match="OS_USERNAME"):
        provider.ecs(settings(), SystemClock())
    with pytest.raises(CloudUnusable, match=r"no clouds\.yaml"):
        provider.ecs(settings(profile="prod"), SystemClock())


def test_the_simulator_provider(monkeypatch):
    monkeypatch.delenv("FLEET_SIMULATOR_URL", raising=False)
    with pytest.raises(CloudUnusable) as caught:
        simulator_provider.simulator(settings(), SystemClock())
    assert "fleet simulator" in (caught.value.hint or "")
    assert "fleet demo" in (caught.value.hint or "")

    monkeypatch.setenv("FLEET_SIMULATOR_URL", "http://127.0.0.1:8080")
    assert "127.0.0.1:8080" in repr(simulator_provider.simulator(settings(), SystemClock()))
    given = settings(endpoints={"iam": "http://127.0.0.1:9090"})
    assert "127.0.0.1:9090" in repr(simulator_provider.simulator(given, SystemClock()))


def test_a_well_known_password_is_no_secret():
    """The word "simulator" must stay readable in every message."""
    assert isinstance(Password(IAM, "fleet", defaults.USER_PASSWORD), Password)
    assert redact("start `fleet simulator`") == "start `fleet simulator`"


SHOWN = answer(200, TOKEN_BODY)


@pytest.mark.parametrize(
    ("project", "shown", "wanted"),
    [
        ({"OS_PROJECT_ID": PROJECT}, SHOWN, True),
        ({"OS_PROJECT_NAME": "eu-de"}, SHOWN, True),
        ({"OS_PROJECT_NAME": "eu-de", "OS_PROJECT_DOMAIN_NAME": "another"}, SHOWN, False),
        ({"OS_PROJECT_NAME": "eu-nl"}, SHOWN, False),
        ({"OS_PROJECT_ID": "another"}, SHOWN, False),
        ({"OS_PROJECT_ID": PROJECT}, answer(401), False),
        ({"OS_PROJECT_ID": PROJECT}, answer(404, b"<html>"), False),
    ],
)
def test_a_token_that_is_not_changed_is_used_as_it_is_for_its_own_project_only(project, shown, wanted):
    """Not every Keystone gives a token for one that has a project. Another project has other servers."""

    async def story():
        script = Script(answer(403, {"error": {"code": 403, "message": "no rescoping"}}), shown)
        environ = {"OS_AUTH_URL": IAM, "OS_TOKEN": "Canary-Given-Token"} | project
        found = find(CloudSettings(provider="ecs"), environ)
        made = found.login(script, LoopClock())
        if wanted:
            assert (await made.logged_in()).identity.project_id == PROJECT
            return (await made.headers(ANY))["X-Auth-Token"]
        with pytest.raises(CloudUnusable, match="no rescoping") as caught:
            await made.logged_in()
        assert "Canary" not in f"{caught.value} {caught.value.hint}"
        assert [request.method for request in script.sent] == ["POST", "GET"]
        return "Canary-Given-Token"

    assert run_virtual(story()) == "Canary-Given-Token"
