"""Fill in the reinstall call for a server: login, user data, which call. Secrets pass through here only."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from fleet.cloud.api import MAX_USER_DATA, ReinstallOrder
from fleet.core.facts import nonce_of
from fleet.core.model import Server, ServerId
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
        run: The run's id, for the nonces of its servers.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        passwords: Mapping[str, str],
        user_data: Mapping[str, bytes],
        user_id: str,
        run: str = "",
    ) -> None:
        self._run = run
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
            user_data=render(plan, seen, self._user_data, nonce_of(self._run, server.id)),
            byol=plan.byol,
            stop_first=plan.mode == "with-stop-server" and server.noted is None and seen.is_on,
            image=plan.image,
            preserve_ephemeral=plan.preserve_ephemeral,
        )


def render(plan: Reinstall, seen: Server, sources: Mapping[str, bytes], nonce: str = "") -> bytes | None:
    """Return the user data for a server, or None.

    Raises:
        ValueError: It cannot be rendered, or is longer than the cloud takes.
    """
    if plan.user_data is None:
        return None
    content = _render(plan.user_data, sources[plan.user_data.sha256], seen, nonce)
    if len(content) > MAX_USER_DATA:
        raise ValueError(f"user data of {len(content)} bytes; the cloud takes {MAX_USER_DATA} before base64")
    return content


def _render(user_data: UserData, source: bytes, seen: Server, nonce: str) -> bytes:
    if user_data.kind != "template":
        return source
    # jinja2 only for those who use it.
    from fleet.plan.template import EXAMPLE_NONCE, render_user_data  # noqa: PLC0415 - late: start-up stays fast

    return render_user_data(user_data.kind, source, seen, nonce or EXAMPLE_NONCE)


_SOME_ID, _SOME_ADDRESSES = ServerId("id"), (("192.0.2.1",), ("192.0.2.2",))


def rendered_kind(plan: Reinstall, seen: Server, sources: Mapping[str, bytes]) -> bytes | None:
    """Return a server's user data without its very own name, id and addresses.

    Two servers for which it is equal are sent the same thing as far as a canary can tell.

    Raises:
        ValueError: As `render`.
    """
    if plan.user_data is None or plan.user_data.kind != "template":
        return render(plan, seen, sources)
    fixed, floating = _SOME_ADDRESSES
    alike = replace(seen, id=_SOME_ID, name="name", addresses=fixed, public_addresses=floating)
    return render(plan, alike, sources)
