"""A notice in the forms in which others take it: JSON for programs, Slack's messages, cards for Teams.

Names of servers and words of clouds are foreign text: they must not call anybody, nor become links.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fleet.core.settings import Settings
from fleet.core.state import Run
from fleet.report.figures import counted, sentence
from fleet.report.notices import Notice, spelt
from fleet.report.status import next_step


def as_data(
    notice: Notice, run: Run | None, settings: Settings, *, at: datetime, name: str, working: bool = False
) -> dict[str, Any]:
    """Return a notice for programs: what ``format: json`` and commands get.

    Args:
        notice: What is told.
        run: About which run, or None.
        settings: Of which plan.
        at: When it is told.
        name: What the command line finds the run by.
        working: A process works on it, and goes on.
    """
    found, wrong = counted(run) if run else (None, "")
    return {
        "version": 1,
        "event": notice.event,
        "keys": sorted(notice.keys),
        "plan": settings.plan,
        "run": run.id if run else None,
        "cloud": run.opened.cloud if run else None,
        "at": at,
        "since": notice.since,
        "title": notice.title,
        "lines": [*notice.lines, *([wrong] if wrong else [])],
        "nights_without_progress": notice.nights,
        "figures": found,
        "servers": [
            {"id": each.id, "name": each.member.name, "reason": each.reason, "code": each.code,
             "hint": each.hint or None}
            for each in notice.servers
        ],
        "next": _next(notice, run, name, working=working) if run else None,
    }  # fmt: skip


def _next(notice: Notice, run: Run, name: str, *, working: bool) -> str | None:
    """Return the command that goes on; of a run that is being worked on, what it waits for."""
    if not working:
        return next_step(run, None, name)
    return {
        "held": f"fleet release {name} --reason …",
        "needs-approval": f"fleet approve {name} --reason …",
    }.get(notice.event)


def _text(data: dict[str, Any]) -> list[str]:
    """Return what people read below the title."""
    found = list(data["lines"])
    if data["since"] is not None:
        found.append(f"since {spelt(data['since'])}")
    if data["figures"] is not None:
        sums = sentence(data["figures"], brief=True)
        found += [sums] if sums not in data["title"] else []
    if data["next"]:
        found.append(f"next: {data['next']}")
    found.append(f"run {data['run']}" if data["run"] else f"plan {data['plan']}")
    return found


def as_slack(data: dict[str, Any]) -> dict[str, Any]:
    """Return a message for Slack, and for what takes Slack's messages (Mattermost, Rocket.Chat)."""
    lines = [f"*{_mrkdwn(data['title'])}*", *(_mrkdwn(line) for line in _text(data))]
    return {"text": "\n".join(lines)}


def _mrkdwn(text: str) -> str:
    """Return foreign text that calls nobody and makes no link."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("@", "@\u200b").replace("*", "\u2217").replace("`", "'").replace("\n", " ")


def as_teams(data: dict[str, Any]) -> dict[str, Any]:
    """Return an adaptive card, for a webhook of Teams' workflows."""

    def block(text: str, **more: object) -> dict[str, Any]:
        # A run of text is taken as it is; a text block would read server names as Markdown.
        return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **more}]}

    colour = {"finished": "good", "started": "default"}.get(data["event"], "attention")
    title = block(data["title"], weight="bolder", size="medium", color=colour)
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, *(block(line) for line in _text(data))],
        "msteams": {"width": "Full"},
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]}


Form = Callable[[dict[str, Any]], dict[str, Any]]

FORMS: dict[str, Form] = {"slack": as_slack, "teams": as_teams, "json": dict}
"""By `fleet.core.settings.Notify.format`."""
