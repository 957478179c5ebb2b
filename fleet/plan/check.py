"""The rules that take more than one field.

Works on what did parse, so that one bad field does not hide what is wrong elsewhere. Whether something was
given at all is asked of the file, not of the parsed parts: a field with a mistake in it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fleet.core import settings
from fleet.core.facts import placeholders
from fleet.errors import Problem
from fleet.plan.fields import NAME_PATTERN, suggest
from fleet.plan.files import Files
from fleet.plan.merge import Entry
from fleet.plan.model import Expect, Hooks, Plan, Reinstall, Select, Target, Verify
from fleet.plan.reader import Document, Loc

SHORTEST_SETTLE_S = 120.0
"""A request can live as long as our time-out and the gateway's together; two minutes are beyond both."""
SHORTEST_SIMULATED_SETTLE_S = 2.0

_OF_A_TARGET = ("select", "exclude", "expect", "needs")
_OF_DEFAULTS = ("key_pair", "admin_password", "stop", "reinstall", "verify", "hooks", "leave", "require")
_LOGINS = ("key_pair", "admin_password")
_NOT_ABOUT_A_SERVER = ("before_run", "after_run", "before_wave", "after_wave", "on_hold")


class Checker:
    """One plan and what is wrong with it.

    Attributes:
        problems: What is wrong.
        files: What the plan points at.
    """

    def __init__(self, document: Document, plan: Plan, entries: list[Entry], files: Files) -> None:
        self._document = document
        self._plan = plan
        self._entries = entries
        self.files = files
        self.problems: list[Problem] = []

    def _wrong(self, loc: Loc, message: str, hint: str, *, at_key: bool = False) -> None:
        self.problems.append(self._document.problem(loc, message, hint, at_key=at_key))

    def check(self, plan_name: str) -> None:
        """Check every rule; what is wrong is in `problems` afterwards."""
        self._check_shape()
        self._check_names(plan_name)
        self._check_needs()
        self._check_both_given()
        if self._document.has("protect") and self._document.get("protect") == {}:
            self._wrong(
                ("protect",),
                "nothing is protected: the selector is empty",
                "name ids or tags, or take it out",
            )
        for entry in self._entries:
            if entry.target is not None:
                self._check_target(entry, entry.target)

    def _check_shape(self) -> None:
        has = self._document.has
        if not has("targets"):
            if not has("select"):
                self._wrong(
                    (), "the plan selects no servers", "add `select:`, or `targets:` with a selector each"
                )
            return
        for name in _OF_A_TARGET:
            if has(name):
                self._wrong(
                    (name,),
                    f"`{name}` and `targets` cannot both be at the top",
                    "move it into a target",
                    at_key=True,
                )
        for name in _OF_DEFAULTS:
            if has(name):
                self._wrong(
                    (name,),
                    f"`{name}` is not said at the top beside `targets`",
                    f"put it under `defaults:`, as `defaults: {{{name}: …}}`",
                    at_key=True,
                )

    def _check_names(self, plan_name: str) -> None:
        if not plan_name and not self._document.has("name"):
            hint = "add `name: web-tier`: a-z, 0-9 and -"
            self._wrong((), "the plan has no name, and its file's name is none either", hint)
        seen: dict[str, Loc] = {}
        for entry in self._entries:
            if not entry.loc:
                entry.name = plan_name
                continue
            if not self._document.has(*entry.loc, "name"):
                if entry.target is not None:
                    self._wrong(entry.loc, "the target has no `name`", "add `name: web`")
            elif entry.name in seen:
                first = self._document.values[(*seen[entry.name], "name")].line
                message = f"two targets are called {entry.name}; the first on line {first}"
                self._wrong((*entry.loc, "name"), message, "give it another name")
            elif entry.name:
                seen[entry.name] = entry.loc

    def _check_needs(self) -> None:
        names = [entry.name for entry in self._entries if entry.name]
        needs = {
            entry.name: (entry.target.needs or []) for entry in self._entries if entry.target and entry.name
        }
        for entry in self._entries:
            if entry.target is None or not entry.loc:
                continue
            for need in entry.target.needs or []:
                loc = (*entry.loc, "needs")
                if need == entry.name:
                    self._wrong(loc, f"target {need} needs itself", "take it out")
                elif need not in names:
                    self._wrong(loc, f"there is no target {need}", suggest(need, names))
                elif _reaches(needs, need, entry.name):
                    self._wrong(
                        loc, f"{entry.name} and {need} wait for each other", "take one of the two out"
                    )

    def _check_both_given(self) -> None:
        """Two ways to say one thing in one block."""
        has = self._document.has
        blocks: list[Loc] = [("defaults",), *(entry.loc for entry in self._entries)]
        for block in blocks:
            logins = [
                (*block, *below, name)
                for name in _LOGINS
                for below in ((), ("reinstall",))
                if has(*block, *below, name)
            ]
            for loc in logins[1:]:
                if loc[-1] == logins[0][-1]:
                    self._wrong(
                        loc, f"`{loc[-1]}` is given twice, here and above", "keep one of them", at_key=True
                    )
                else:
                    self._wrong(
                        loc,
                        "key_pair and admin_password cannot both be given",
                        "keep one of them",
                        at_key=True,
                    )
        for block in {(), *(entry.loc for entry in self._entries)}:
            if has(*block, "rollout", "max_failures") and has(*block, "rollout", "failures", "hold_after"):
                message = "`max_failures` is short for failures.hold_after, which is given as well"
                self._wrong((*block, "rollout", "max_failures"), message, "keep one of them", at_key=True)

    def _check_target(self, entry: Entry, target: Target) -> None:
        self._check_selection(entry, target)
        self._check_login(entry)
        self._check_reinstall(entry)
        verify = entry.verify or Verify()
        timeout = settings.Verify().timeout_s if verify.timeout is None else verify.timeout
        if verify.stable_for is not None and verify.stable_for >= timeout:
            self._wrong(
                entry.origin("verify", "stable_for"),
                f"stable_for {_spell(verify.stable_for)} is not shorter than timeout {_spell(timeout)}",
                "no server could ever be verified: lower it, or raise the timeout",
            )
        for index, check in enumerate(verify.checks or []):
            loc = entry.origin("verify", "checks")
            if check.timeout is not None and check.command is None:
                message = "`timeout` beside a tcp, ssh or http check means nothing"
                self._wrong(
                    (*loc, index, "timeout"), message, "it is for commands; see verify.timeout", at_key=True
                )

        self._check_nonce(entry, verify)
        self._check_hooks(entry)

    def _check_nonce(self, entry: Entry, verify: Verify) -> None:
        nonce = verify.nonce
        if nonce is None:
            return
        loc = entry.origin("verify", "nonce")
        if nonce.timeout is not None and nonce.command is None:
            message = "`timeout` beside a nonce's http means nothing"
            self._wrong((*loc, "timeout"), message, "it is for commands; see verify.timeout", at_key=True)
        given = entry.reinstall.user_data if entry.reinstall else None
        where = entry.origin("reinstall", "user_data")
        user_data = self.files.read_user_data(given, where) if given else None
        if given is not None and user_data is None:
            return  # it cannot be read: said already
        source = self.files.user_data[user_data.sha256] if user_data else b""
        if user_data is None or user_data.kind != "template" or b"fleet.nonce" not in source:
            self._wrong(
                loc,
                "no server could ever show a nonce: its user data holds none",
                "write {{ fleet.nonce }} into reinstall.user_data.template, where the check finds it",
                at_key=True,
            )

    def _check_hooks(self, entry: Entry) -> None:
        hooks = entry.hooks or Hooks()
        about_servers = [*(hooks.on_failure or ())]
        for pair in hooks.around_server or ():
            about_servers += [*pair.do, *pair.undo]
        if any("public_ip" in placeholders(word) for word in about_servers):
            self._wrong(
                entry.origin("hooks"),
                "{server.public_ip} is not known to hooks: addresses of that kind come and go",
                "write {server.private_ip}, {server.id} or {server.name}",
                at_key=True,
            )
        for name in _NOT_ABOUT_A_SERVER:
            argv = getattr(entry.hooks, name, None) or ()
            for word in argv:
                for fact in placeholders(word):
                    self._wrong(
                        entry.origin("hooks", name),
                        f"{{server.{fact}}} means nothing in `{name}`, which is about no single server",
                        "take it out; the facts are in FLEET_* variables and on stdin",
                    )

    def _check_selection(self, entry: Entry, target: Target) -> None:
        if not self._document.has(*entry.loc, "select"):
            if entry.loc:
                self._wrong(entry.loc, "the target selects no servers", "add `select:`")
        elif self._document.get(*entry.loc, "select") == {}:
            self._wrong(
                (*entry.loc, "select"),
                "the selector is empty; that never means every server",
                'write what to select, such as tags: {role: web}; name: "*" is every server',
            )
        if self._document.has(*entry.loc, "exclude") and self._document.get(*entry.loc, "exclude") == {}:
            self._wrong(
                (*entry.loc, "exclude"), "the exclusion is empty", "name what to exclude, or take it out"
            )
        expect = target.expect or Expect()
        if expect.min is not None and expect.max is not None and expect.min > expect.max:
            self._wrong(
                (*entry.loc, "expect", "min"), f"min {expect.min} is more than max {expect.max}", "swap them"
            )

    def _check_login(self, entry: Entry) -> None:
        reinstall = entry.reinstall or Reinstall()
        if reinstall.key_pair is not None or reinstall.admin_password is not None:
            return
        blocks: tuple[Loc, ...] = (entry.loc, ("defaults",))
        if any(
            self._document.has(*block, *below, name)
            for block in blocks
            for below in ((), ("reinstall",))
            for name in _LOGINS
        ):
            return  # given, and wrong: said already
        self._wrong(
            (*entry.loc, "reinstall"),
            "nobody could log in after the reinstall: neither key_pair nor admin_password is given",
            "add `key_pair: NAME`, or `admin_password: {env: NAME}`, here or under `defaults:`",
        )

    def _check_reinstall(self, entry: Entry) -> None:
        reinstall = entry.reinstall or Reinstall()
        if reinstall.cloud_init is False and reinstall.user_data is not None:
            self._wrong(
                entry.origin("reinstall", "cloud_init"),
                "the call without cloud-init carries no user data, and user_data is given",
                "write auto or true, or take user_data out (`user_data: null` in a target)",
            )
        settle = reinstall.settle
        simulated = (self._plan.cloud.provider if self._plan.cloud else None) == "simulator"
        least = SHORTEST_SIMULATED_SETTLE_S if simulated else SHORTEST_SETTLE_S
        if settle is not None and settle < least:
            why = "a request could live longer than that, and the server be wiped after it was given up"
            only = (
                ""
                if simulated or settle < SHORTEST_SIMULATED_SETTLE_S
                else "; shorter only with provider: simulator"
            )
            self._wrong(
                entry.origin("reinstall", "settle"),
                f"settle: {_spell(settle)} is too short: {why}",
                f"write {_spell(least)} or more{only}",
            )

    def _selects(self) -> Iterator[tuple[Loc, Select]]:
        if self._plan.protect is not None:
            yield ("protect",), self._plan.protect
        for entry in self._entries:
            for name in ("select", "exclude"):
                select = getattr(entry.target, name, None)
                if select is not None:
                    yield (*entry.loc, name), select


def _reaches(needs: dict[str, list[str]], start: str, goal: str) -> bool:
    """Tell whether *start* waits for *goal*, directly or through others."""
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        name = ahead.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            ahead += needs.get(name, [])
    return False


def _spell(seconds: float) -> str:
    """Write a duration as a plan does: ``1h30m``."""
    whole = int(seconds)
    if whole != seconds:
        return f"{seconds:g}s"
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def legal_name(text: str) -> str:
    """Return *text* if a plan may be called so, else nothing."""
    return text if re.fullmatch(NAME_PATTERN, text) else ""
