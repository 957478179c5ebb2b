"""Logging in as users do: files and variables, real processes, a cloud that checks who is calling."""

from __future__ import annotations

import json
import urllib.request

import pytest
from process_support import fleet_on, fleet_text, once_each, plan_text

from fleet.cloud.simulator import defaults

pytestmark = pytest.mark.process

PLAN = plan_text(settle="2m").replace("provider: simulator", "provider: ecs")
PROFILED = plan_text(settle="2m").replace("provider: simulator", "provider: ecs, profile: here")
KEYS = {
    "HUAWEICLOUD_SDK_AK": defaults.ACCESS_KEY,
    "HUAWEICLOUD_SDK_SK": defaults.SECRET_KEY,
    "HUAWEICLOUD_SDK_PROJECT_ID": defaults.PROJECT_ID,
}
PASSWORD = {
    "OS_USERNAME": defaults.USER_NAME,
    "OS_PASSWORD": defaults.USER_PASSWORD,
    "OS_USER_DOMAIN_NAME": defaults.DOMAIN_NAME,
    "OS_PROJECT_NAME": defaults.PROJECT_NAME,
}


def clouds_yaml(folder, url, more=""):
    """Write the login into clouds.yaml, the password into secure.yaml."""
    home = folder / ".config" / "openstack"
    home.mkdir(parents=True, exist_ok=True)
    auth = (
        f"{{auth_url: {url}/v3, username: {defaults.USER_NAME}, user_domain_name: {defaults.DOMAIN_NAME},"
        f" project_name: {defaults.PROJECT_NAME}}}"
    )
    (home / "clouds.yaml").write_text(f"clouds: {{here: {{auth: {auth}{more}}}}}")
    secure = home / "secure.yaml"
    secure.write_text(f"clouds: {{here: {{auth: {{password: {defaults.USER_PASSWORD}}}}}}}")
    secure.chmod(0o600)


def a_token(url):
    """Log in by hand."""
    user = {
        "name": defaults.USER_NAME,
        "password": defaults.USER_PASSWORD,
        "domain": {"name": defaults.DOMAIN_NAME},
    }
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/v3/auth/tokens", json.dumps(body).encode(), timeout=30) as answer:
        return answer.headers["X-Subject-Token"]


def test_a_run_with_an_access_key(tmp_path):
    """Every request is signed; nobody was told whose key pair it is."""
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        env = KEYS | {"OS_AUTH_URL": cloud.url, "HOME": str(tmp_path)}
        done = fleet("run", fleet.plan(PLAN), "--yes", env=env)

        assert done.code == 0, done.err
        assert cloud.reinstalls() == once_each(4)
        journal = fleet.journals()[0].read_text()
    for secret in (defaults.SECRET_KEY, "Signature="):
        assert secret not in journal + done.out + done.err


def test_a_run_begun_with_an_access_key_goes_on_with_a_password(tmp_path):
    """It is the same cloud and project, however one gets in."""
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        home = {"HOME": str(tmp_path), "OS_AUTH_URL": cloud.url}
        plan = fleet.plan(PLAN.replace("max_failures: 0", "max_failures: 0, approve_after: [1]"))
        begun = fleet("run", plan, "--yes", env=KEYS | home)
        assert begun.code == 6, begun.err
        assert fleet("approve", "--reason", "a test", env=home).code == 0

        done = fleet("run", plan, "--yes", env=PASSWORD | home)

        assert done.code == 0, done.err
        assert cloud.reinstalls() == once_each(2)


def test_a_plans_profile_and_the_proxy_of_the_environment(tmp_path):
    """The proxy is for the world outside; the loopback's own addresses never take it."""
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        clouds_yaml(tmp_path, cloud.url)
        env = {"HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
        done = fleet("preview", fleet.plan(PROFILED), env=env)

        assert done.code == 0, done.err
        assert "2 servers will be reinstalled" in done.out


def test_a_certificate_that_is_not_checked_is_refused(tmp_path):
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        clouds_yaml(tmp_path, cloud.url, more=", verify: false")
        done = fleet("preview", fleet.plan(PROFILED), env={"HOME": str(tmp_path)})

        assert done.code == 8
        assert "clouds.here" in done.err
        assert "cacert" in done.err


@pytest.mark.parametrize("kind", ["token", "application credential", "openstack"])
def test_other_logins(tmp_path, kind):
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        env = {"HOME": str(tmp_path), "OS_AUTH_URL": f"{cloud.url}/v3"}
        if kind == "token":
            env |= {"OS_TOKEN": a_token(cloud.url), "OS_PROJECT_ID": defaults.PROJECT_ID}
        else:
            env |= {
                "OS_APPLICATION_CREDENTIAL_ID": defaults.APPLICATION_CREDENTIAL,
                "OS_APPLICATION_CREDENTIAL_SECRET": defaults.APPLICATION_SECRET,
            }
        plan = PLAN.replace("provider: ecs", "provider: openstack") if kind == "openstack" else PLAN
        done = fleet("preview", fleet.plan(plan), env=env)

        assert done.code == 0, done.err
        assert "2 servers will be reinstalled" in done.out


def test_a_token_that_has_ended(tmp_path):
    """What to do is said, and the token is not."""
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        env = {
            "HOME": str(tmp_path),
            "OS_AUTH_URL": cloud.url,
            "OS_TOKEN": "Canary-Ended-Token",
            "OS_PROJECT_ID": defaults.PROJECT_ID,
        }
        done = fleet("preview", fleet.plan(PLAN), env=env)

        assert done.code == 8
        assert "get a new one" in done.err
        assert "Canary" not in done.err
