"""``notify``: does a message get through? Before a night, and not in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from fleet.cli.common import now, plan_argument, print_lines
from fleet.core.settings import Settings
from fleet.errors import Exit, PlanError, Problem
from fleet.notify import Answer, Message, send
from fleet.plan import load_plan
from fleet.report.notice_forms import FORMS, as_data
from fleet.report.notices import Notice


@click.command()
@plan_argument
def notify(plan: Path) -> int:
    """Send a test message to everybody whom a plan notifies, once, and say what came of it.

    Ends with 3 when one could not be reached.

    \b
    Example:
      fleet notify plans/web-tier.yaml
    """  # noqa: D301 - click's mark for "do not rewrap"
    settings = load_plan(plan).settings
    if not settings.notify:
        raise PlanError(
            Problem(
                "the plan notifies nobody",
                hint="add notify: [{webhook: {env: SLACK_WEBHOOK}}]",
                file=str(plan),
            )
        )
    answers = asyncio.run(_all(settings))
    print_lines(
        f"{each}: {'delivered' if answer.why is None else f'not delivered: {answer.why}'}"
        for each, answer in zip(settings.notify, answers, strict=True)
    )
    return Exit.OK if all(answer.why is None for answer in answers) else Exit.FAILED


async def _all(settings: Settings) -> list[Answer]:
    notice = Notice(
        "test",
        frozenset({"test"}),
        f"{settings.plan}: a test, nothing has happened",
        ("whoever reads this is told of the runs of this plan",),
    )
    data = as_data(notice, None, settings, at=now(), name="")
    messages = [
        Message(
            notice.keys,
            notice.event,
            notice.title,
            data,
            FORMS[each.format if each.webhook else "json"](data),
        )
        for each in settings.notify
    ]
    return await asyncio.gather(
        *(
            send(each, message, settings.folder)
            for each, message in zip(settings.notify, messages, strict=True)
        )
    )
