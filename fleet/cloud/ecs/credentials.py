"""What a token is asked for with: a password, another token, an application credential (Keystone v3).

Whoever makes one of these registers its secret with `fleet.secrets`, unless it is a well-known one. Of every
``…_id`` and ``…_name`` one is enough; with both, the id counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from fleet.cloud.ecs import parse

ENVIRONMENT = "the environment (OS_…)"


class Credentials(Protocol):
    """Who we are, before the cloud has said so."""

    @property
    def url(self) -> str:
        """Base URL of the identity service, without ``/v3``."""
        ...

    @property
    def source(self) -> str:
        """Where they were found, for people."""
        ...

    def body(self) -> bytes:
        """Return the body of the request for a token."""
        ...

    def remedy(self) -> str:
        """Return what to check when they are refused."""
        ...


@dataclass(frozen=True, slots=True)
class Password:
    """Credentials of a user for one project.

    Attributes:
        user: Name, or empty when there is an id.
        domain_id, domain_name: Of the user; a user's id needs none.
    """

    url: str
    user: str
    password: str = field(repr=False)
    domain_id: str | None = None
    domain_name: str | None = None
    project_id: str | None = None
    project_name: str | None = None
    user_id: str | None = None
    source: str = ENVIRONMENT

    def body(self) -> bytes:
        """Return the request's body (Keystone v3, password, scoped to the project)."""
        who: dict[str, Any]
        if self.user_id:
            who = {"id": self.user_id, "password": self.password}
        else:
            domain = {"id": self.domain_id} if self.domain_id else {"name": self.domain_name}
            who = {"name": self.user, "password": self.password, "domain": domain}
        identity = {"methods": ["password"], "password": {"user": who}}
        return _body(identity, self.scope())

    def scope(self) -> dict[str, Any]:
        """Return the project, as the body names it."""
        return {"id": self.project_id} if self.project_id else {"name": self.project_name}

    def remedy(self) -> str:
        """Return what to check."""
        names = (
            "OS_USERNAME, OS_PASSWORD, OS_USER_DOMAIN_NAME, and OS_PROJECT_NAME"
            if self.source == ENVIRONMENT
            else f"username, password and user_domain_name of {self.source}, and project_name"
        )
        return (
            f"check {names}, since an unknown project may be refused in the same words;"
            " it is not tried again, since wrong passwords lock the account"
        )


@dataclass(frozen=True, slots=True)
class KeystonePassword(Password):
    """Credentials for Keystone proper: a project's name is unique within its domain only.

    Attributes:
        project_domain_id, project_domain_name: Of the project; None: the user's.
    """

    project_domain_id: str | None = None
    project_domain_name: str | None = None

    def scope(self) -> dict[str, Any]:
        """Return the project, as the body names it."""
        if self.project_id:
            return {"id": self.project_id}
        by_id = self.project_domain_id or (None if self.project_domain_name else self.domain_id)
        domain = {"id": by_id} if by_id else {"name": self.project_domain_name or self.domain_name}
        return {"name": self.project_name, "domain": domain}


@dataclass(frozen=True, slots=True)
class GivenToken:
    """A token that somebody got elsewhere. It is changed for one of our own, to learn whose it is.

    Attributes:
        project_domain_id, project_domain_name: Needed by Keystone proper with a project's name.
    """

    url: str
    token: str = field(repr=False)
    project_id: str | None = None
    project_name: str | None = None
    project_domain_id: str | None = None
    project_domain_name: str | None = None
    source: str = ENVIRONMENT

    def body(self) -> bytes:
        """Return the request's body (Keystone v3, token, scoped to the project)."""
        scope: dict[str, Any] = {"id": self.project_id} if self.project_id else {"name": self.project_name}
        if not self.project_id and self.project_domain_id:
            scope["domain"] = {"id": self.project_domain_id}
        elif not self.project_id and self.project_domain_name:
            scope["domain"] = {"name": self.project_domain_name}
        return _body({"methods": ["token"], "token": {"id": self.token}}, scope)

    def remedy(self) -> str:
        """Return what to check."""
        return f"the token of {self.source} has ended, or was never one for here: get a new one"


@dataclass(frozen=True, slots=True)
class ApplicationCredential:
    """A secret for one project, made in OpenStack. Huawei-style clouds have none.

    Attributes:
        id: Of the application credential; by its name alone Keystone needs to know the user as well.
    """

    url: str
    id: str
    secret: str = field(repr=False)
    name: str = ""
    user_id: str | None = None
    user: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None
    source: str = ENVIRONMENT

    def body(self) -> bytes:
        """Return the request's body. It names no project: the credential is for one already."""
        given: dict[str, Any] = {"secret": self.secret}
        if self.id:
            given["id"] = self.id
        else:
            given["name"] = self.name
            domain = {"id": self.domain_id} if self.domain_id else {"name": self.domain_name}
            given["user"] = {"id": self.user_id} if self.user_id else {"name": self.user, "domain": domain}
        return _body({"methods": ["application_credential"], "application_credential": given}, None)

    def remedy(self) -> str:
        """Return what to check."""
        return f"check the application credential of {self.source}: id, secret, and whether it has ended"


def _body(identity: dict[str, Any], project: dict[str, Any] | None) -> bytes:
    auth: dict[str, Any] = {"identity": identity}
    if project is not None:
        auth["scope"] = {"project": project}
    return parse.as_json({"auth": auth})
