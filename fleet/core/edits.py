"""What an edit of the plan changes for a run that is under way.

Pacing may change: limits, time-outs, checks. Who is reinstalled, in which waves, and with what, may not:
the servers were chosen, shown and agreed to when the run was opened.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fleet.core.settings import Reinstall, Settings

_PACING_OF_REINSTALL = frozenset({"timeout_s", "attempts", "settle_s"})
_FIXED_OF_ROLLOUT = frozenset({"waves", "order"})
_PACING_OF_CLOUD = frozenset({"requests_per_second"})


def edits(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """Compare the plan in force with an edited one.

    Returns:
        What may not change in a run, and what may; each ``path: old → new``, secrets being references.
    """
    fixed: list[str] = []
    pacing: list[str] = []
    before, after = dict(_leaves(_view(old))), dict(_leaves(_view(new)))
    for path in [*before, *(path for path in after if path not in before)]:
        was, now = before.get(path, "nothing"), after.get(path, "nothing")
        if was == now:
            continue
        (pacing if _is_pacing(path) else fixed).append(f"{'.'.join(path)}: {was} → {now}")
    return fixed, pacing


def same_content(one: Reinstall, other: Reinstall) -> bool:
    """Tell whether two targets install the same thing with the same login, whatever is said around it."""
    return _content(one) == _content(other)


def _content(plan: Reinstall) -> tuple[object, ...]:
    data = plan.user_data.sha256 if plan.user_data else None
    login = (plan.key_pair, plan.user_id, plan.admin_password)
    return (*login, data, plan.image, plan.byol, plan.cloud_init, plan.preserve_ephemeral)


def _is_pacing(path: tuple[str, ...]) -> bool:
    match path:
        case ("cloud", key, *_):
            return key in _PACING_OF_CLOUD
        case ("targets", _, "reinstall", key, *_):
            return key in _PACING_OF_REINSTALL
        case ("targets", _, "rollout", key, *_):
            return key not in _FIXED_OF_ROLLOUT
        case ("windows" | "freeze" | "gates" | "limits" | "concurrency" | "budget" | "claim", *_):
            return True
        case ("notify", *_):
            return True
        case ("targets", _, "needs" | "hooks" | "require_backup", *_):
            return True
        case ("targets", _, "stop" | "verify", *_):
            return True
        case _:
            return False


def _view(settings: Settings) -> dict[str, object]:
    """Return what counts, targets by name. Where the plan and its files lie is no difference."""
    view: dict[str, object] = msgspec.to_builtins(settings)
    for ignored in ("digest", "folder"):
        view.pop(ignored)
    targets = {}
    for target in settings.targets:
        each = msgspec.to_builtins(target)
        each.pop("name")
        if each["reinstall"]["user_data"] is not None:
            each["reinstall"]["user_data"].pop("path")
        targets[target.name] = each
    view["targets"] = targets
    view["order of targets"] = list(targets)
    return view


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _leaves(each, (*path, str(key)))
    elif isinstance(value, dict | list | tuple):
        # An empty tuple of a tag's values means any value: that is more than no such tag.
        empty = "any value" if path[-2:-1] == ("tags",) else "nothing"
        yield path, ", ".join(_word(each) for each in value) or empty
    else:
        yield path, _word(value)


def _word(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, float):  # 25 in a plan is 25.0 in a journal
        return f"{value:g}"
    if isinstance(value, dict):
        return " ".join(f"{key} {_word(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_word(each) for each in value)
    return str(value)
