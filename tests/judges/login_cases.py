"""Logins as people have them: files and variables, for both sides to read. Imports nothing of either.

Left out is where ours is stricter on purpose (docs/logging-in.md): an entry that nobody named, numbers for
texts, a file that a variable names and that is not there, several regions of which none is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

URL = "https://id.example.com/v3"
CLOUDS = """\
clouds:
  plain:
    auth: {auth_url: "https://id.example.com/v3", username: u, password: "p#1", user_domain_name: d,
           project_name: web, project_domain_name: pd}
    region_name: one
  ids:
    auth: {auth_url: "https://id.example.com/v3", user_id: u1, password: p, project_id: p1}
  default-domain:
    auth: {auth_url: "https://id.example.com/v3", username: u, password: p, project_name: web,
           default_domain_name: dd}
  domain-ids:
    auth: {auth_url: "https://id.example.com/v3", username: u, password: p, project_name: web,
           user_domain_id: di, project_domain_id: pi}
  split:
    auth: {auth_url: "https://id.example.com/v3", username: u, user_domain_name: d, project_name: web,
           project_domain_name: d}
  token:
    auth_type: token
    auth: {auth_url: "https://id.example.com/v3", token: t1, project_id: p1}
  v3token:
    auth_type: v3token
    auth: {auth_url: "https://id.example.com/v3", token: t1, project_name: web, project_domain_name: d}
  application:
    auth_type: v3applicationcredential
    auth: {auth_url: "https://id.example.com/v3", application_credential_id: a1,
           application_credential_secret: s1}
    region_name: one
    cacert: /etc/ssl/our.pem
  application-by-name:
    auth_type: v3applicationcredential
    auth: {auth_url: "https://id.example.com/v3", application_credential_name: n, username: u,
           user_domain_name: d, application_credential_secret: s1}
  of-a-vendor:
    profile: otc
    region_name: eu-nl
    auth: {username: u, password: p, user_domain_name: d, project_name: eu-nl_web, project_domain_name: d}
  of-ours:
    profile: ours
    auth: {username: u, password: p}
    region_name: two
  both-places:
    username: outside
    password: p
    auth: {auth_url: "https://id.example.com/v3", username: inside, user_domain_name: d, project_name: web,
           project_domain_name: d}
"""
SECURE = "clouds: {split: {auth: {password: from-secure}}}"
VENDOR = """\
public-clouds:
  ours: {auth: {auth_url: "https://{region_name}.example.com/v3", user_domain_name: d, project_name: web,
                project_domain_name: d}}
"""
OPENRC = {
    "OS_AUTH_URL": URL,
    "OS_USERNAME": "u",
    "OS_PASSWORD": "p",
    "OS_USER_DOMAIN_NAME": "d",
    "OS_PROJECT_NAME": "web",
    "OS_PROJECT_DOMAIN_ID": "default",
    "OS_REGION_NAME": "RegionOne",
    "OS_INTERFACE": "public",
    "OS_IDENTITY_API_VERSION": "3",
}


@dataclass(frozen=True)
class Case:
    """One way of logging in.

    Attributes:
        variables: ``{home}`` in them is filled in.
        files: Texts by path below the home.
    """

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def prepare(self, home: Path) -> dict[str, str]:
        """Write the files below *home*; return the environment."""
        for path, text in self.files.items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(text)
        return {"HOME": str(home)} | {name: text.format(home=home) for name, text in self.variables.items()}


IN_HOME = {
    ".config/openstack/clouds.yaml": CLOUDS,
    ".config/openstack/secure.yaml": SECURE,
    ".config/openstack/clouds-public.yaml": VENDOR,
}
NAMES = ("plain", "ids", "default-domain", "domain-ids", "split", "token", "v3token", "application",
         "application-by-name", "of-a-vendor", "of-ours", "both-places")  # fmt: skip
CASES = (
    *(Case(f"clouds.yaml: {name}", {"OS_CLOUD": name}, IN_HOME) for name in NAMES),
    Case("clouds.yaml before the openrc", OPENRC | {"OS_CLOUD": "plain", "OS_USERNAME": "other"}, IN_HOME),
    Case("clouds.yaml named by a variable",
         {"OS_CLOUD": "plain", "OS_CLIENT_CONFIG_FILE": "{home}/x/my.yaml"},
         IN_HOME | {"x/my.yaml": CLOUDS.replace("username: u,", "username: named,", 1)}),
    Case("secure.yaml named by a variable",
         {"OS_CLOUD": "split", "OS_CLIENT_SECURE_FILE": "{home}/x/my.yaml"},
         IN_HOME | {"x/my.yaml": SECURE.replace("from-secure", "from-elsewhere")}),
    Case("clouds.yaml here, and not at home", {"OS_CLOUD": "plain"},
         IN_HOME | {"clouds.yaml": CLOUDS.replace("username: u,", "username: here,", 1)}),
    Case("clouds.yml", {"OS_CLOUD": "plain"}, {".config/openstack/clouds.yml": CLOUDS}),
    Case("openrc", OPENRC),
    Case("openrc: ids", {"OS_AUTH_URL": URL, "OS_USER_ID": "u", "OS_PASSWORD": "p", "OS_PROJECT_ID": "p"}),
    Case("openrc of old names",
         {name.replace("PROJECT_NAME", "TENANT_NAME"): value for name, value in OPENRC.items()}),
    Case("openrc with an application credential",
         {"OS_AUTH_URL": URL, "OS_AUTH_TYPE": "v3applicationcredential", "OS_APPLICATION_CREDENTIAL_ID": "a1",
          "OS_APPLICATION_CREDENTIAL_SECRET": "s1", "OS_REGION_NAME": "RegionOne", "OS_CACERT": "/x/ca.pem"}),
    Case("openrc with a token",
         {"OS_AUTH_URL": URL, "OS_AUTH_TYPE": "token", "OS_TOKEN": "t1", "OS_PROJECT_ID": "p1"}),
    Case("openrc with another address", OPENRC | {"OS_COMPUTE_ENDPOINT_OVERRIDE": "https://nova.example.com/v2.1"}),
)  # fmt: skip
"""Every way."""
