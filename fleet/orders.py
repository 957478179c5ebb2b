"""Fill in the reinstall call for a server: login, user data, which call. Secrets pass through here only."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.cloud.api import MAX_USER_DATA, ReinstallOrder
from fleet.core.model import Server
from fleet.core.settings import Reinstall, Settings, Target, UserData
from fleet.core.state import ServerState
from fleet.errors import PlanError, Problem


class Orders:
    """Makes orders for the servers of a run.

    Args:
        settings: The plan in force.
        passwords: By target; resolved once, when a life of the run begins, so that a secret that is gone
            is found before anything is touched.
        user_data: Sources by digest.
        user_id: The authenticated user, to whom a key pair belongs unless the plan names another.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        passwords: Mapping[str, str],
        user_data: Mapping[str, bytes],
        user_id: str,
    ) -> None:
        self._passwords = passwords
        self._user_data = user_data
        self._user_id = user_id
        self._targets = {target.name: target for target in settings.targets}
        for target in settings.targets:
            wanted = target.reinstall.user_data
            if wanted is not None and wanted.sha256 not in user_data:
                raise PlanError(
                    Problem(
                        f"the user data of target {target.name!r} ({wanted.path or 'text'}) is not the one "
                        "that the run was opened with, and its copy is missing",
                        hint=f"the run needs the content with sha256 {wanted.sha256}",
                    )
                )

    def __call__(self, server: ServerState, seen: Server) -> ReinstallOrder:
        """Return the order for *server*.

        Raises:
            ValueError: Its user data cannot be rendered, or is too long when it is.
        """
        target = self._targets[server.member.target]
        return self.make(target, server, seen)

    def make(self, target: Target, server: ServerState, seen: Server) -> ReinstallOrder:
        """Return the order for *server* of *target*; raises as a call does."""
        plan = target.reinstall
        return ReinstallOrder(
            server=server.id,
            call=server.member.call,
            key_pair=plan.key_pair,
            user_id=(plan.user_id or self._user_id) if plan.key_pair else None,
            admin_password=self._passwords.get(target.name),
            user_data=render(plan, seen, self._user_data),
            byol=plan.byol,
            stop_first=plan.mode == "with-stop-server" and server.noted is None and seen.is_on,
            image=plan.image,
        )


def render(plan: Reinstall, seen: Server, sources: Mapping[str, bytes]) -> bytes | None:
    """Return the user data for a server, or None.

    Raises:
        ValueError: It cannot be rendered, or is longer than the cloud takes.
    """
    if plan.user_data is None:
        return None
    content = _render(plan.user_data, sources[plan.user_data.sha256], seen)
    if len(content) > MAX_USER_DATA:
        raise ValueError(f"user data of {len(content)} bytes; the cloud takes {MAX_USER_DATA} before base64")
    return content


def _render(user_data: UserData, source: bytes, seen: Server) -> bytes:
    if user_data.kind != "template":
        return source
    from fleet.plan.template import render_user_data  # noqa: PLC0415 - jinja2 only for those who use it

    return render_user_data(user_data.kind, source, seen)
