"""Which login is meant, and what it lacks: every source that users of these clouds have already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.clock import SystemClock
from fleet.cloud.ecs.credentials import ApplicationCredential, GivenToken, KeystonePassword, Password
from fleet.cloud.ecs.endpoints import Endpoints, identity_of_region
from fleet.cloud.ecs.login import find
from fleet.cloud.ecs.login_build import Found
from fleet.cloud.ecs.login_key import KeyCredentials
from fleet.cloud.ecs.transport import AiohttpTransport
from fleet.cloud.simulator import provider as simulator_provider
from fleet.core.settings import CloudSettings
from fleet.errors import CloudUnusable
from fleet.secrets import redact

IAM = "https://iam.eu-de.otc.t-systems.com"
PASSWORD = {
    "OS_AUTH_URL": f"{IAM}/v3",
    "OS_USERNAME": "deploy",
    "OS_PASSWORD": "Canary-Env-Passw0rd",
    "OS_USER_DOMAIN_NAME": "OTC0001",
    "OS_PROJECT_NAME": "eu-de",
}
KEYS = {"HUAWEICLOUD_SDK_AK": "AKENV", "HUAWEICLOUD_SDK_SK": "Canary-Env-Secret"}
CLOUDS = """\
clouds:
  prod:
    profile: otc
    region_name: eu-nl
    auth:
      username: deploy
      password: Canary-File-Passw0rd
      user_domain_name: OTC0001
      project_name: eu-nl_web
  keys:
    region_name: eu-de
    ak: AKFILE
    auth: {sk: Canary-File-Secret, project_id: p1}
  token:
    auth_type: v3token
    auth: {auth_url: "https://keystone.example.com:5000/v3", token: Canary-File-Token, project_id: p1}
  application:
    auth_type: v3applicationcredential
    auth:
      auth_url: https://keystone.example.com:5000/v3
      application_credential_id: a1
      application_credential_secret: Canary-App-Secret
  named:
    auth_type: v3applicationcredential
    auth:
      auth_url: https://keystone.example.com:5000/v3
      application_credential_name: nightly
      application_credential_secret: Canary-App-Secret
      username: deploy
      user_domain_name: Default
  stack:
    auth:
      auth_url: https://keystone.example.com:5000
      user_id: u1
      password: Canary-File-Passw0rd
      project_name: web
      project_domain_name: Default
    cacert: ~/ca.pem
    compute_endpoint_override: https://nova.example.com/compute/v2.1/%(project_id)s
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home and a current folder with nothing in them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".config" / "openstack").mkdir(parents=True)
    return tmp_path


def env(home, **more):
    return {"HOME": str(home), **more}


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def clouds(home, text=CLOUDS, name="clouds.yaml", mode=0o600):
    return written(home / ".config" / "openstack" / name, text, mode)


def ecs(environ, **settings) -> Found:
    return find(CloudSettings(provider="ecs", **settings), environ)


def stack(environ, **settings) -> Found:
    return find(CloudSettings(provider="openstack", **settings), environ, keystone=True)


def body(found: Found):
    assert not isinstance(found.credentials, KeyCredentials)
    return json.loads(found.credentials.body())["auth"]


# Which one


def test_the_order_of_the_sources(home):
    """The plan's profile, OS_CLOUD, OS_…, keys of the environment, the credentials file."""
    clouds(home)
    written(home / ".huaweicloud" / "credentials", "[basic]\nak = AKINI\nsk = x%y\nproject_id = p1\n")
    everything = env(home, OS_CLOUD="keys", OS_REGION_NAME="eu-de", **PASSWORD, **KEYS)

    assert "clouds.prod in" in ecs(everything, profile="prod").source
    assert "clouds.keys in" in ecs(everything).source
    del everything["OS_CLOUD"]
    assert ecs(everything).source == "the environment (OS_…)"
    del everything["OS_PASSWORD"], everything["OS_USERNAME"]
    assert ecs(everything).source == "the environment (HUAWEICLOUD_SDK_AK)"
    assert "[basic] of" in ecs(env(home, OS_REGION_NAME="eu-de")).source


def test_a_cloud_that_nobody_named_is_not_used(home):
    """Not even the only one: openstacksdk would."""
    clouds(home, "clouds: {only: {auth: {}}}")
    with pytest.raises(CloudUnusable, match="no login was found") as caught:
        ecs(env(home))
    assert "clouds.yaml has only" in caught.value.hint


def test_no_login_at_all(home):
    with pytest.raises(CloudUnusable) as caught:
        ecs(env(home))
    for way in ("OS_CLOUD", "OS_USERNAME", "OS_TOKEN", "access key", str(home / ".huaweicloud")):
        assert way in caught.value.message


# clouds.yaml


def test_the_files_place(home):
    """The variable's, the current folder's, the home's; the first one counts, and nothing is merged."""
    entry = "clouds: {x: {auth: {auth_url: https://%s.example.com, token: Canary-Tok, project_id: p}}}"
    home_file = clouds(home, entry % "home")
    assert ecs(env(home, OS_CLOUD="x")).url == "https://home.example.com"
    here = written(home / "clouds.yml", entry % "here")
    assert ecs(env(home, OS_CLOUD="x")).url == "https://here.example.com"
    named = written(home / "elsewhere" / "my.yaml", entry % "named")
    chosen = env(home, OS_CLOUD="x", OS_CLIENT_CONFIG_FILE=str(named))
    assert ecs(chosen).url == "https://named.example.com"
    named.unlink()
    with pytest.raises(CloudUnusable, match=r"OS_CLIENT_CONFIG_FILE names .*my\.yaml"):  # no other
        ecs(chosen)
    here.unlink()
    home_file.unlink()
    written(home / "config" / "openstack" / "clouds.yaml", entry % "xdg")
    assert ecs(env(home, OS_CLOUD="x", XDG_CONFIG_HOME=str(home / "config"))).url == "https://xdg.example.com"


def test_a_vendors_profile_and_secure_yaml(home):
    clouds(home)
    clouds(home, "clouds: {prod: {auth: {password: Canary-Secure}}}", "secure.yaml")

    found = ecs(env(home, OS_CLOUD="prod"))

    assert found.url == "https://iam.eu-nl.otc.t-systems.com"
    assert (found.region, found.kind) == ("eu-nl", "password")
    assert body(found)["identity"]["password"]["user"] == {
        "name": "deploy",
        "password": "Canary-Secure",
        "domain": {"name": "OTC0001"},
    }
    assert body(found)["scope"] == {"project": {"name": "eu-nl_web"}}
    assert "secure.yaml" in found.source


def test_profiles_of_ones_own(home):
    clouds(
        home,
        "public-clouds: {mine: {auth: {auth_url: https://iam.mine.example.com/v3}}}",
        "clouds-public.yaml",
    )
    clouds(home, "clouds: {x: {profile: mine, auth: {token: Canary-Tok, project_id: p}}}")
    assert ecs(env(home, OS_CLOUD="x")).url == "https://iam.mine.example.com"


def test_the_plans_region_and_address_win(home):
    clouds(home)
    found = ecs(env(home, OS_CLOUD="prod"), region="eu-de", endpoints={"ecs": "https://e.example.com"})
    assert (found.url, found.region) == (IAM, "eu-de")
    assert found.endpoints == {"ecs": "https://e.example.com"}
    moved = ecs(env(home, OS_CLOUD="prod"), endpoints={"iam": "https://i.example.com/v3"})
    assert moved.url == "https://i.example.com"


def test_kinds_of_login_in_clouds_yaml(home):
    clouds(home)
    token = stack(env(home, OS_CLOUD="token"))
    application = stack(env(home, OS_CLOUD="application"))
    named = stack(env(home, OS_CLOUD="named"))
    keys = ecs(env(home, OS_CLOUD="keys"))

    assert isinstance(token.credentials, GivenToken)
    assert body(token) == {
        "identity": {"methods": ["token"], "token": {"id": "Canary-File-Token"}},
        "scope": {"project": {"id": "p1"}},
    }
    assert isinstance(application.credentials, ApplicationCredential)
    assert body(application) == {
        "identity": {
            "methods": ["application_credential"],
            "application_credential": {"id": "a1", "secret": "Canary-App-Secret"},
        }
    }
    assert body(named)["identity"]["application_credential"] == {
        "name": "nightly",
        "secret": "Canary-App-Secret",
        "user": {"name": "deploy", "domain": {"name": "Default"}},
    }
    assert isinstance(keys.credentials, KeyCredentials)
    assert (keys.url, keys.credentials.key.access, keys.credentials.project_id) == (IAM, "AKFILE", "p1")


def test_an_openstack_entry(home):
    """A user by id, a project within its domain, a certificate authority, an address with a placeholder."""
    clouds(home)
    found = stack(env(home, OS_CLOUD="stack"))

    assert body(found)["identity"]["password"]["user"] == {"id": "u1", "password": "Canary-File-Passw0rd"}
    assert body(found)["scope"] == {"project": {"name": "web", "domain": {"name": "Default"}}}
    assert found.cafile == str(Path("~/ca.pem").expanduser())
    assert found.endpoints == {"compute": "https://nova.example.com/compute/v2.1"}


def test_keys_are_no_login_for_openstack(home):
    clouds(home)
    with pytest.raises(CloudUnusable, match="no login for OpenStack"):
        stack(env(home, OS_CLOUD="keys"))


def test_a_key_in_a_file_is_read_again_when_asked(home):
    """Temporary keys are replaced by whoever rotates them."""
    clouds(home)
    found = ecs(env(home, OS_CLOUD="keys")).credentials
    clouds(home, CLOUDS.replace("AKFILE", "AKNEW"))
    assert isinstance(found, KeyCredentials)
    assert found.reread is not None
    assert found.reread().access == "AKNEW"


BROKEN = "clouds: {x: {auth: {auth_url: https://a.example.com, username: u, user_domain_name: d,"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("clouds: {y: {}}", "has no cloud 'x'", "it has: y"),
        ("clouds: [", "clouds.yaml:1: not YAML", "quotes"),
        ("clouds: {x: {auth: {password: Canary-Broken, a: b: c}}}", "not YAML", "quotes"),
        ("other: 1", "has no clouds", "write clouds"),
        ("clouds: {x: 3}", "has no cloud 'x'", "it has: x"),
        ("clouds: {x: {auth: 3}}", "auth is no mapping", "auth_url"),
        ("clouds: {x: {profile: nobodys}}", "profile 'nobodys' is not known", "otc"),
        ("clouds: {x: {auth: {}}}", "missing: auth_url, username, password, user_domain_name", "secure.yaml"),
        (BROKEN + " password: 12345678, project_name: p}}}", ": auth.password is a number", "quotes"),
        (BROKEN + " password: p, project_id: 0123}}}", "project_id is a number", "quotes"),
        (BROKEN + " password: p, project_id: 'p '}}}", "project_id begins or ends with a space", "take"),
        (BROKEN + ' password: "p\\n", project_id: p}}}', "password has a line break", "take it out"),
        (BROKEN + " password: p, project_name: p}, verify: false}}", "verify: false", "cacert"),
        (BROKEN + " password: p, project_name: p}, insecure: true}}", "insecure", "cacert"),
        (BROKEN + " password: p, project_name: p}, auth_type: v3totp}}", "auth_type 'v3totp'", "v3token"),
        (BROKEN + " password: p, project_name: p}, ecs_endpoint_override: nova}}", "ecs is no URL", "https"),
        ("clouds: {x: {profile: otc, auth: {token: t0ken, project_id: p}}}", "region_name", "cloud.region"),
        ("clouds: {x: {region_name: eu-de, auth: {ak: a, sk: }}}", "missing: sk", "secure.yaml"),
        ("clouds: {x: {auth: {ak: a, sk: b}}}", "neither the region nor", "OS_REGION_NAME"),
        ("clouds: {x: {region_name: 'a b', auth: {ak: a, sk: b}}}", "is no region", "eu-de"),
        (
            "clouds: {x: {auth: {auth_url: https://a.example.com/v2.0, token: t0ken, project_id: p}}}",
            "auth_url is for version 2",
            "v3",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_key_and_remedy(home, text, message, hint):
    path = clouds(home, text)
    with pytest.raises(CloudUnusable) as caught:
        ecs(env(home, OS_CLOUD="x"))
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert str(path) in caught.value.message or "region" in caught.value.message
    assert "Canary" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


def test_no_clouds_yaml_says_where_it_was_looked_for(home):
    with pytest.raises(CloudUnusable, match=r"no clouds\.yaml") as caught:
        ecs(env(home), profile="prod")
    assert str(home / ".config" / "openstack" / "clouds.yaml") in caught.value.hint
    assert "/etc/openstack/clouds.yaml" in caught.value.hint


def test_a_file_that_others_may_read_is_warned_about(home):
    path = clouds(home, mode=0o644)
    (warning,) = ecs(env(home, OS_CLOUD="prod")).warnings
    assert str(path) in warning
    assert "chmod 600" in warning
    path.chmod(0o600)
    assert ecs(env(home, OS_CLOUD="prod")).warnings == ()


# The environment


def test_ids_tokens_and_application_credentials_of_the_environment(home):
    by_id = {"OS_AUTH_URL": IAM, "OS_USER_ID": "u1", "OS_PASSWORD": "Canary-1", "OS_PROJECT_ID": "p1"}
    assert body(ecs(env(home, **by_id)))["identity"]["password"]["user"]["id"] == "u1"
    token = {"OS_AUTH_URL": IAM, "OS_TOKEN": "Canary-Token", "OS_PROJECT_NAME": "eu-de"}
    assert body(ecs(env(home, **token)))["identity"]["methods"] == ["token"]
    both = ecs(env(home, **PASSWORD, OS_TOKEN="Canary-Token", OS_AUTH_TYPE="v3token"))
    assert both.kind == "token"
    application = {
        "OS_AUTH_URL": "https://keystone.example.com",
        "OS_AUTH_TYPE": "v3applicationcredential",
        "OS_APPLICATION_CREDENTIAL_ID": "a1",
        "OS_APPLICATION_CREDENTIAL_SECRET": "Canary-App",
    }
    assert stack(env(home, **application)).kind == "application credential"


def test_a_project_of_keystones_own_has_a_domain_and_one_of_iams_has_not(home):
    given = env(home, **PASSWORD, OS_PROJECT_DOMAIN_NAME="Default")
    assert body(stack(given))["scope"]["project"]["domain"] == {"name": "Default"}
    assert body(ecs(given))["scope"] == {"project": {"name": "eu-de"}}
    assert isinstance(stack(given).credentials, KeystonePassword)
    assert type(ecs(given).credentials) is Password


def test_keystone_wants_the_projects_domain(home):
    given = {k: v for k, v in PASSWORD.items() if k != "OS_USER_DOMAIN_NAME"} | {"OS_USER_ID": "u1"}
    with pytest.raises(CloudUnusable, match="OS_PROJECT_DOMAIN_NAME"):
        stack(env(home, **given))


@pytest.mark.parametrize(
    ("given", "url", "project"),
    [
        (KEYS | {"HUAWEICLOUD_SDK_PROJECT_ID": "p1", "OS_REGION_NAME": "eu-de"}, IAM, ("p1", "eu-de")),
        (
            KEYS | {"HUAWEICLOUD_SDK_IAM_ENDPOINT": "https://iam.example.com", "HW_PROJECT_NAME": "x_y"},
            "https://iam.example.com",
            (None, "x_y"),
        ),
        (
            {
                "OS_ACCESS_KEY": "A",
                "OS_SECRET_KEY": "Canary-S",
                "OS_AUTH_URL": f"{IAM}/v3",
                "OS_PROJECT_NAME": "n",
            },
            IAM,
            (None, "n"),
        ),
        (
            {"HW_ACCESS_KEY": "A", "HW_SECRET_KEY": "Canary-S", "HW_REGION_NAME": "cn-north-4"},
            "https://iam.cn-north-4.myhuaweicloud.com",
            (None, "cn-north-4"),
        ),
    ],
)
def test_access_keys_of_the_environment(home, given, url, project):
    found = ecs(env(home, **given))
    assert isinstance(found.credentials, KeyCredentials)
    assert found.url == url
    assert (found.credentials.project_id, found.credentials.project_name) == project


@pytest.mark.parametrize("name", ["HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_PROJECT_ID"])
@pytest.mark.parametrize("odd", ["Canary\n", " Canary", "Can\x00ary"])
def test_what_came_along_when_it_was_copied_is_said(home, name, odd):
    """A line break in a key would be found out by a cloud's refusal, six of which lock the key."""
    given = KEYS | {"HUAWEICLOUD_SDK_PROJECT_ID": "p1", "OS_REGION_NAME": "eu-de"} | {name: odd}
    with pytest.raises(CloudUnusable, match="the environment") as caught:
        ecs(env(home, **given))
    assert "take" in (caught.value.hint or "")
    assert "Canary" not in str(caught.value)


def test_a_password_may_end_with_a_space(home):
    assert (
        body(ecs(env(home, **PASSWORD | {"OS_PASSWORD": " a b "})))["identity"]["password"]["user"][
            "password"
        ]
        == " a b "
    )


def test_families_of_keys_are_not_mixed(home):
    mixed = env(home, OS_ACCESS_KEY="A", HUAWEICLOUD_SDK_SK="Canary-S", OS_REGION_NAME="eu-de")
    with pytest.raises(CloudUnusable, match="not set in the environment: OS_SECRET_KEY"):
        ecs(mixed)


def test_the_security_token_and_the_users_id(home):
    given = KEYS | {
        "HUAWEICLOUD_SDK_SECURITY_TOKEN": "Canary-Security",
        "OS_REGION_NAME": "eu-de",
        "OS_USER_ID": "u1",
    }
    found = ecs(env(home, **given)).credentials
    assert isinstance(found, KeyCredentials)
    assert (found.key.security_token, found.user_id) == ("Canary-Security", "u1")


def test_the_sdks_credentials_file(home):
    path = written(
        home / "keys.ini",
        "[basic]\nak=AKINI\nsk=Canary%Ini\nproject_id=p1\niam_endpoint=iam.example.com\n",
        0o640,
    )
    found = ecs(env(home, HUAWEICLOUD_SDK_CREDENTIALS_FILE=str(path)))
    assert isinstance(found.credentials, KeyCredentials)
    assert (found.url, found.credentials.key.secret) == ("https://iam.example.com", "Canary%Ini")
    assert "chmod 600" in found.warnings[0]


@pytest.mark.parametrize("text", ["[global]\nak=a\n", "ak=Canary-Ini\n", "[basic]\nak=a\n"])
def test_a_broken_credentials_file(home, text):
    path = written(home / ".huaweicloud" / "credentials", text)
    with pytest.raises(CloudUnusable, match="credentials") as caught:
        ecs(env(home, OS_REGION_NAME="eu-de"))
    assert str(path) in caught.value.message
    assert "Canary" not in str(caught.value)


def test_other_addresses_of_services(home):
    given = env(
        home,
        **KEYS,
        OS_REGION_NAME="eu-de",
        HUAWEICLOUD_SDK_REGION_ECS_EU_DE="https://ecs.private.example.com",
        OS_IMAGE_ENDPOINT_OVERRIDE="https://ims.private.example.com/v2",
    )
    assert ecs(given).endpoints == {
        "ecs": "https://ecs.private.example.com",
        "ims": "https://ims.private.example.com",
    }


def test_unchecked_certificates_are_refused(home):
    with pytest.raises(CloudUnusable, match="always checked"):
        ecs(env(home, **PASSWORD, OS_INSECURE="true"))
    assert ecs(env(home, **PASSWORD, OS_INSECURE="false")).cafile is None
    assert ecs(env(home, **PASSWORD, OS_CACERT="/ca.pem")).cafile == "/ca.pem"


# Secrets


def test_every_secret_that_was_read_is_redacted_from_then_on(home):
    clouds(home)
    written(home / ".huaweicloud" / "credentials", "[basic]\nak=A\nsk=Canary-Ini-Secret\n")
    finds = [ecs(env(home, OS_CLOUD=name)) for name in ("prod", "keys")]
    finds += [stack(env(home, OS_CLOUD=name)) for name in ("token", "application", "stack")]
    finds += [
        ecs(env(home, OS_REGION_NAME="eu-de")),
        ecs(env(home, **PASSWORD)),
        ecs(env(home, **KEYS, HUAWEICLOUD_SDK_SECURITY_TOKEN="Canary-Env-Security", OS_REGION_NAME="eu-de")),
        ecs(env(home, OS_AUTH_URL=IAM, OS_TOKEN="Canary-Env-Token", OS_PROJECT_ID="p")),
    ]
    for found in finds:
        assert "Canary" not in repr(found)
        transport = AiohttpTransport(SystemClock(), environ={})
        assert "Canary" not in repr(found.login(transport, SystemClock()))
    for secret in (
        "Canary-File-Passw0rd",
        "Canary-File-Secret",
        "Canary-File-Token",
        "Canary-App-Secret",
        "Canary-Ini-Secret",
        "Canary-Env-Passw0rd",
        "Canary-Env-Secret",
        "Canary-Env-Security",
        "Canary-Env-Token",
    ):
        assert redact(f"x {secret} y") == "x [secret] y"


# Where things are


@pytest.mark.parametrize(
    ("region", "iam", "ecs_url"),
    [
        ("cn-north-4", "iam.cn-north-4.myhuaweicloud.com", "ecs.cn-north-4.myhuaweicloud.com"),
        ("eu-de", "iam.eu-de.otc.t-systems.com", "ecs.eu-de.otc.t-systems.com"),
        ("eu-nl", "iam.eu-nl.otc.t-systems.com", "ecs.eu-nl.otc.t-systems.com"),
        ("eu-ch2", "iam-pub.eu-ch2.sc.otc.t-systems.com", "ecs.eu-ch2.sc.otc.t-systems.com"),
        ("eu-west-101", "iam.eu-west-101.myhuaweicloud.eu", "ecs.eu-west-101.myhuaweicloud.eu"),
        (
            "eu-west-0",
            "iam.eu-west-0.prod-cloud-ocb.orange-business.com",
            "ecs.eu-west-0.prod-cloud-ocb.orange-business.com",
        ),
    ],
)
def test_addresses_by_region(region, iam, ecs_url):
    assert identity_of_region(region) == f"https://{iam}"
    assert Endpoints(f"https://{iam}", {}, region).found("ecs") == (
        f"https://{ecs_url}",
        "the identity service's name",
    )


def test_the_region_of_a_sub_project(home):
    """The vendor's global identity service does not say a region; the project's name does."""
    given = env(
        home, **KEYS, HW_AUTH_URL="https://iam.myhuaweicloud.com/v3", HW_PROJECT_NAME="ap-southeast-1_web"
    )
    found = ecs(given)
    assert Endpoints(found.url, found.endpoints, found.region).base("ims") == (
        "https://ims.ap-southeast-1.myhuaweicloud.com"
    )


def test_the_built_in_cloud_has_no_profiles():
    with pytest.raises(CloudUnusable, match="no profiles"):
        simulator_provider.simulator(CloudSettings(provider="simulator", profile="x"), SystemClock())
