"""From the file's form to `fleet.core.settings`. What the plan does not say keeps the settings' defaults."""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import TypeVar

import msgspec

from fleet.core import settings
from fleet.plan.files import Files
from fleet.plan.merge import Entry
from fleet.plan.model import Check, Expect, Hooks, Nonce, Notify, Plan, Reinstall, Select, Stop, Verify
from fleet.plan.pacing import Failures, Gate, Rollout, Window
from fleet.plan.reader import Loc

S = TypeVar("S", bound=msgspec.Struct)


def to_settings(
    plan: Plan, entries: list[Entry], files: Files, *, name: str, digest: str, folder: str
) -> settings.Settings:
    """Make the settings, looking up the files on the way.

    They may be used only if nothing was found wrong, here or before: of a faulty plan only the good parts
    are in them.
    """
    return settings.Settings(
        plan=name,
        digest=digest,
        folder=folder,
        cloud=_cloud(plan),
        targets=tuple(_target(entry, files) for entry in entries if entry.target is not None),
        protect=_select(plan.protect, ("protect",), files),
        claim=bool(plan.claim),
        windows=tuple(_window(window) for window in plan.windows or ()),
        freeze=_freeze(plan, files),
        gates=tuple(_gate(gate, ("gates", index), files) for index, gate in enumerate(plan.gates or ())),
        limits=_replace(settings.Limits(), **(plan.limits.model_dump() if plan.limits else {})),
        concurrency=plan.rollout.concurrency
        if plan.rollout and any(entry.loc for entry in entries)
        else None,
        budget=_budget(plan.failures or Failures()),
        notify=tuple(_notify(each, ("notify", index), files) for index, each in enumerate(plan.notify or ())),
    )


def _notify(given: Notify, loc: Loc, files: Files) -> settings.Notify:
    return _replace(
        settings.Notify(),
        webhook=files.secret(given.webhook, (*loc, "webhook")) if given.webhook else None,
        command=files.command(given.command, (*loc, "command")) if given.command else None,
        on=tuple(dict.fromkeys(given.on)) if given.on else None,
        format=given.format,
        to=given.to,
        env=tuple(given.env) if given.env else None,
    )


def _window(given: Window) -> settings.Window:
    def spell(moment: time | datetime) -> str:
        return moment.isoformat() if isinstance(moment, datetime) else f"{moment:%H:%M}"

    return settings.Window(
        start=spell(given.start),
        end=spell(given.end),
        days=tuple(given.days or ()),
        nth=tuple(-1 if nth == "last" else nth for nth in given.nth or ()),
        timezone=given.timezone,
    )


def _freeze(plan: Plan, files: Files) -> tuple[settings.Freeze, ...]:
    zone = next((window.timezone for window in plan.windows or () if window.timezone), "UTC")
    made = []
    for index, given in enumerate(plan.freeze or ()):
        dates = command = ical = None
        if given.dates is not None:
            first, _, last = given.dates.partition("/")
            dates = (first, last or first)
        if given.command is not None:
            command = files.command(given.command, ("freeze", index, "command"))
        if given.ical is not None:
            remote = re.match(r"https?://", given.ical)
            ical = given.ical if remote else str(files.path(given.ical, ("freeze", index, "ical")))
        made.append(settings.Freeze(dates=dates, command=command, ical=ical, timezone=zone))
    return tuple(made)


def _gate(given: Gate, loc: Loc, files: Files) -> settings.Gate:
    if given.http is not None:
        return _replace(settings.HttpGate(url=given.http.url), status=given.http.status)
    if given.promql is not None:
        return settings.PromqlGate(
            url=given.promql.url, query=given.promql.query, below=given.promql.below, above=given.promql.above
        )
    return settings.CommandGate(argv=files.command(given.command or ("true",), (*loc, "command")))


def _replace(made: S, **given: object) -> S:
    """Set what is given; what is None keeps its default."""
    return msgspec.structs.replace(
        made, **{name: value for name, value in given.items() if value is not None}
    )


def _cloud(plan: Plan) -> settings.CloudSettings:
    cloud = plan.cloud
    if cloud is None:
        return settings.CloudSettings(provider="ecs")
    return _replace(
        settings.CloudSettings(provider=cloud.provider or "ecs"),
        profile=cloud.profile,
        region=cloud.region,
        endpoints=cloud.endpoints.model_dump(exclude_none=True, by_alias=True) if cloud.endpoints else None,
        requests_per_second=cloud.requests_per_second,
    )


def _target(entry: Entry, files: Files) -> settings.Target:
    target = entry.target
    expect = (target.expect if target else None) or Expect()
    stop = entry.stop or Stop()
    made = settings.Target(
        name=entry.name,
        select=_select(target.select if target else None, (*entry.loc, "select"), files) or settings.Select(),
        exclude=_select(target.exclude if target else None, (*entry.loc, "exclude"), files),
        expect_min=expect.min,
        expect_max=expect.max,
        rollout=_rollout(entry.rollout or Rollout()),
        stop=_replace(settings.Stop(), soft_timeout_s=stop.soft_timeout, then=stop.then),
        reinstall=_reinstall(entry, entry.reinstall or Reinstall(), files),
        verify=_verify(entry, entry.verify or Verify(), files),
        hooks=_hooks(entry, entry.hooks or Hooks(), files),
        require_backup=_backup(entry, files),
    )
    needs = target.needs if target and entry.loc else None
    return _replace(made, leave=entry.leave, needs=None if needs is None else tuple(needs))


def _select(given: Select | None, loc: Loc, files: Files) -> settings.Select | None:
    if given is None:
        return None
    names = given.name or []
    fields = {
        "ids": given.ids,
        "name": [pattern.text for pattern in names if not pattern.is_regex],
        "name_regex": [pattern.text for pattern in names if pattern.is_regex],
        "zone": given.availability_zone,
        "status": given.status,
        "flavor": given.flavor,
        "image": given.image,
        "vpc": given.vpc,
        "enterprise_project": given.enterprise_project,
        "ip": given.ip,
    }
    listed = {name: tuple(values) for name, values in fields.items() if values}
    hosts = files.inventory(given.inventory, (*loc, "inventory")) if given.inventory else {}
    made = _replace(settings.Select(), tags=dict(given.tags or {}), older_than_s=given.older_than, **listed)
    return _replace(made, hosts=hosts)


def _rollout(given: Rollout) -> settings.Rollout:
    failures = _budget(given.failures or Failures())
    return _replace(
        settings.Rollout(),
        waves=tuple(given.waves) if given.waves else None,
        concurrency=given.concurrency,
        hold_after=failures.hold_after,
        in_a_row=failures.in_a_row,
        never_more_than=failures.never_more_than,
        max_unavailable=given.max_unavailable,
        spread=given.spread,
        bake_s=given.bake,
        approve_after=tuple(sorted(set(given.approve_after))) if given.approve_after else None,
        order=tuple(given.order) if given.order else None,
    )


def _budget(given: Failures) -> settings.Budget:
    cap = given.never_more_than
    return settings.Budget(
        hold_after=given.hold_after,
        in_a_row=given.in_a_row,
        never_more_than=settings.NeverMoreThan(at_least=cap.at_least, of_verified=cap.of_verified.percent)
        if cap
        else None,
    )


def _reinstall(entry: Entry, given: Reinstall, files: Files) -> settings.Reinstall:
    password = user_data = None
    if given.admin_password is not None:
        loc = entry.origin("reinstall", "admin_password", short="admin_password")
        password = files.secret(given.admin_password, loc)
    if given.user_data is not None:
        user_data = files.read_user_data(given.user_data, entry.origin("reinstall", "user_data"))
    return _replace(
        settings.Reinstall(),
        key_pair=given.key_pair,
        user_id=given.user_id,
        admin_password=password,
        user_data=user_data,
        byol=given.byol,
        mode=given.mode,
        cloud_init=None if given.cloud_init == "auto" else given.cloud_init,
        image=given.image,
        timeout_s=given.timeout,
        attempts=given.attempts,
        settle_s=given.settle,
        preserve_ephemeral=given.preserve_ephemeral,
    )


def _backup(entry: Entry, files: Files) -> settings.Backup | None:
    given = entry.require.backup if entry.require else None
    if given is None:
        return None
    command = given.command
    if command is not None:
        command = files.command(command, entry.origin("require", "backup", "command"))
    return _replace(
        settings.Backup(younger_than_s=given.younger_than, command=command), timeout_s=given.timeout
    )


def _verify(entry: Entry, given: Verify, files: Files) -> settings.Verify:
    loc = entry.origin("verify", "checks")
    checks = None
    if given.checks is not None:
        checks = tuple(_check(check, (*loc, index), files) for index, check in enumerate(given.checks))
    if given.nonce is not None:
        checks = (*(checks or ()), _nonce(given.nonce, entry.origin("verify", "nonce"), files))
    return _replace(settings.Verify(), timeout_s=given.timeout, checks=checks, stable_for_s=given.stable_for)


def _check(check: Check, loc: Loc, files: Files) -> settings.Check:
    if check.tcp is not None:
        return settings.TcpCheck(port=check.tcp.port)
    if check.ssh is not None:
        return settings.SshCheck(port=check.ssh.port)
    if check.http is not None:
        http = check.http
        made = settings.HttpCheck(url=http.url)
        return _replace(made, status=http.status, body=http.body, tls=http.tls)
    argv = files.command(check.command or ("true",), (*loc, "command"))
    return _replace(settings.CommandCheck(argv=argv), timeout_s=check.timeout)


def _nonce(nonce: Nonce, loc: Loc, files: Files) -> settings.NonceCheck:
    if nonce.http is not None:
        return _replace(settings.NonceCheck(url=nonce.http.url), tls=nonce.http.tls)
    argv = files.command(nonce.command or ("true",), (*loc, "command"))
    return _replace(settings.NonceCheck(argv=argv), timeout_s=nonce.timeout)


_SINGLE = ("before_run", "after_run", "before_wave", "after_wave", "on_failure", "on_hold")


def _hooks(entry: Entry, given: Hooks, files: Files) -> settings.Hooks:
    loc = entry.origin("hooks", "around_server")
    around = tuple(
        _replace(
            settings.Around(
                do=files.command(pair.do, (*loc, index, "do")),
                undo=files.command(pair.undo, (*loc, index, "undo")),
            ),
            timeout_s=pair.timeout,
        )
        for index, pair in enumerate(given.around_server or ())
    )
    single = {
        name: files.command(argv, entry.origin("hooks", name))
        for name in _SINGLE
        if (argv := getattr(given, name)) is not None
    }
    return _replace(
        settings.Hooks(around_server=around),
        timeout_s=given.timeout,
        env=tuple(given.env) if given.env else None,
        **single,
    )
