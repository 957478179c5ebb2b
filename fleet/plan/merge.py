"""Fill a target's parameters up with the plan's: field by field, the target's own word first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from fleet.plan.model import Defaults, Hooks, Parameters, Plan, Reinstall, Require, Stop, Target, Verify
from fleet.plan.pacing import Failures, Part, Rollout
from fleet.plan.reader import Document, Loc

P = TypeVar("P", bound=Part)


@dataclass(slots=True)
class Entry:
    """A target of the file, filled up.

    Attributes:
        document: The file.
        loc: Where it stands; empty for a plan without `targets`.
        target: What could be parsed of it, or None.
    """

    document: Document
    loc: Loc
    target: Target | None
    name: str = ""
    rollout: Rollout | None = None
    stop: Stop | None = None
    reinstall: Reinstall | None = None
    verify: Verify | None = None
    leave: str | None = None
    require: Require | None = None
    hooks: Hooks | None = None

    def origin(self, *path: str, short: str = "") -> Loc:
        """Return where the value at *path* comes from: the target's own block, the defaults, the top."""
        blocks: tuple[Loc, ...] = (self.loc, ("defaults",), ())
        for block in blocks:
            for way in (path, (short,)) if short else (path,):
                if self.document.has(*block, *way):
                    return (*block, *way)
        return (*self.loc, *path)


def fill_up(plan: Plan, entries: list[Entry]) -> None:
    """Give every target what the plan says for all."""
    defaults = plan.defaults or Defaults()
    for entry in entries:
        target = entry.target
        if target is None:
            continue
        entry.name = target.name or ""
        entry.rollout = written_out_rollout(target.rollout)
        if target is not plan:
            entry.rollout = merge(written_out_rollout(plan.rollout), entry.rollout)
        entry.stop = merge(defaults.stop, target.stop)
        entry.reinstall = merge(written_out_reinstall(defaults), written_out_reinstall(target))
        entry.verify = merge(defaults.verify, target.verify)
        entry.leave = target.leave or defaults.leave
        entry.require = merge(defaults.require, target.require)
        entry.hooks = merge(defaults.hooks, target.hooks)


def merge(base: P | None, over: P | None) -> P | None:
    """Return *base* with what *over* says laid on top. Lists and alternatives are replaced as a whole."""
    if base is None or over is None:
        return over if base is None else base
    given: dict[str, object] = {}
    for name in over.model_fields_set:
        theirs, ours = getattr(base, name), getattr(over, name)
        if isinstance(ours, Part) and isinstance(theirs, Part) and not ours.whole:
            ours = merge(theirs, ours)
        given[name] = ours
    if isinstance(over, Reinstall):
        # One way to log in replaces the other: a target with a key pair does not want the password as well.
        if over.key_pair is not None and over.admin_password is None:
            given["admin_password"] = None
        elif over.admin_password is not None and over.key_pair is None:
            given["key_pair"] = None
    return base.model_copy(update=given)


def written_out_reinstall(block: Parameters) -> Reinstall | None:
    """Return a block's `reinstall` with the short forms `key_pair` and `admin_password` put into it."""
    given = {name: getattr(block, name) for name in ("key_pair", "admin_password")}
    given = {name: value for name, value in given.items() if value is not None}
    return merge(block.reinstall, Reinstall.model_construct(**given)) if given else block.reinstall


def written_out_rollout(rollout: Rollout | None) -> Rollout | None:
    """Return *rollout* with `max_failures` as what it is short for, so that either overrides the other."""
    if rollout is None or rollout.max_failures is None:
        return rollout
    budget = Failures.model_construct(hold_after=rollout.max_failures)
    kept = {name: getattr(rollout, name) for name in rollout.model_fields_set - {"max_failures"}}
    return Rollout.model_construct(**{**kept, "failures": merge(rollout.failures, budget)})
