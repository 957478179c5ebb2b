"""Write docs/man/fleet.1 from the code: `make man`. Not shipped; the page is, under share/man.

Commands and options come from click, exit codes from `fleet.errors.Exit`. What no code says (files,
environment, signals, examples) stands below. The macros are those of man(7) that every reader knows.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from fleet import __version__
from fleet.cli.main import cli
from fleet.errors import Exit

FILE = Path(__file__).parents[1] / "docs" / "man" / "fleet.1"
DATE = "2026-11-26"
"""Of the last change to the words below."""

DESCRIPTION = """
`fleet` reinstalls the operating systems of a fleet of cloud servers, in waves, from a YAML plan. It stops
each server, reinstalls it through the cloud's API, follows the cloud's job to its end, verifies the
server, and writes a journal from which any later run resumes.

**It destroys data.** A reinstall wipes the server's system disk and makes a new one from its image. Data
disks, addresses and names stay. `fleet preview PLAN` shows whom a plan would hit; it changes nothing.

The call that wipes is announced in the journal, on the disk, before it is sent, and is never sent again while
its answer is unknown. After a crash, a reboot or Ctrl-C give the same command again: it goes on where it was.

Data goes to standard output, talk to standard error. RUN is a run's id, the beginning of one, a journal's
path, or nothing for the newest.
"""

ENVIRONMENT = """
FLEET_STATE_DIR
    Where runs live. Default: `$XDG_STATE_HOME/fleet`, else `~/.local/state/fleet`. On a local disk: file
    systems without locks are refused.
FLEET_COMMAND_OPTION
    Every option can be given by the environment: `--log-format` of `fleet run` as `FLEET_RUN_LOG_FORMAT`.
FLEET_METRICS_FILE, FLEET_LOG_FILE
    As `--metrics-file` and `--log-file` of `fleet run` and `fleet resume`.
FLEET_INHIBIT
    As `--inhibit` of `fleet run` and `fleet resume`.
FLEET_MACHINE_CONCURRENCY
    Limit on the servers in flight over all runs of the state folder.
FLEET_STANDS_ON
    Addresses that this machine cannot do without, separated by commas, or `none`; in place of those that are
    found (gateway, resolver, proxy). No server with one of them is wiped.
FLEET_SIMULATOR_URL
    Where the built-in cloud is, for plans with `provider: simulator`.
OS_CLOUD, OS_AUTH_URL, OS_USERNAME, OS_PASSWORD, …
    The login, as other tools have it. `HW_…` and `HUAWEICLOUD_SDK_…` hold access keys.
HTTPS_PROXY, NO_PROXY
    The proxy for `https` addresses, and what is reached without it.
NO_COLOR, FORCE_COLOR
    No colours, or colours though it is no terminal.
NOTIFY_SOCKET, WATCHDOG_USEC
    Where systemd is told of a run's progress, and how often that its loop turns; set by systemd.
"""

FILES = """
RUN/journal.jsonl
    In the state folder: the journal of a run, one event a line, for its owner only.
RUN/journal.files/
    What the journal must not hold (user data) and a resume needs. Keep both to resume elsewhere.
RUN/journal.jsonl.lock
    Locked while a process works on the run. Never to be deleted.
plans/PLAN.lock
    In the state folder: locked while a run of the plan is opened or worked on.
plans/PLAN.told.json
    Who was told what (`notify`). When it is lost, things are told once more.
machine-concurrency
    In the state folder: one number, the limit over all runs of the machine.
~/.config/openstack/clouds.yaml
    Logins; also `./clouds.yaml` and `/etc/openstack/clouds.yaml`.
"""

SIGNALS = """
SIGINT, SIGTERM, SIGHUP
    The first drains a run: nothing more is started, servers in flight are brought to their end. The second
    stops at once; the cloud goes on with what it was asked, and a later run looks first. One that the process
    was started to ignore (`nohup`) stays ignored.
SIGKILL
    As a crash or a power cut: `fleet resume`, or the same `fleet run`, goes on from the journal.
"""

EXAMPLES = """
Check a plan, look at it, play a night of it, and run it:
    fleet validate web.yaml
    fleet preview web.yaml
    fleet rehearse web.yaml
    fleet run web.yaml
Every night by cron, with a mail only when a person is needed:
    0 22 * * *  . /etc/fleet/openrc && fleet run /etc/fleet/plans/web.yaml --yes --quiet
Where every server stands, and why the failed ones failed:
    fleet status
    fleet status -o json | jq '.servers[] | select(.phase == "failed")'
After a failed night:
    fleet retry web --reason "image fixed"
    fleet resume web
Have a playbook follow a reinstall:
    fleet status web -o ansible > inventory.json
    ansible-playbook -i inventory.json -l verified site.yaml
"""

_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}


def escaped(text: str) -> str:
    """Return text that stands for itself in roff."""
    return "".join(_SPECIAL.get(char, char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text)


def words(text: str) -> str:
    """Return a paragraph as roff: `code` and **strong** in bold, and no line that begins like a request."""
    parts = re.split(r"``?([^`]+)``?|\*\*([^*]+)\*\*", " ".join(text.split()))
    found = []
    for plain, code, strong in zip(parts[::3], [*parts[1::3], None], [*parts[2::3], None], strict=True):
        found.append(escaped(plain))
        if code or strong:
            found.append(f"\\fB{escaped(code or strong or '')}\\fR")
    lines = textwrap.wrap("".join(found), 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in lines)


def literal(text: str) -> Iterator[str]:
    """Yield lines that are kept as they are, indented."""
    yield from (".RS 4", ".nf")
    for line in text.splitlines():
        yield f"\\&{escaped(line)}"
    yield from (".fi", ".RE")


def described(text: str) -> Iterator[tuple[str, str]]:
    """Yield terms, and the indented lines that follow each."""
    for part in re.split(r"\n(?=\S)", text.strip("\n")):
        term, _, meaning = part.partition("\n")
        yield term, textwrap.dedent(meaning)


def terms(text: str) -> Iterator[str]:
    """Yield a list of terms with what they mean."""
    for term, meaning in described(text):
        yield ".TP"
        yield f".B {escaped(term)}"
        yield words(meaning)


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; those that click is told not to rewrap stay as they are."""
    for index, part in enumerate(re.split(r"\n\s*\n", text.strip())):
        kept = part.startswith("\b\n")
        lines = part.removeprefix("\b\n").rstrip()
        if not kept:
            if index:
                yield ".PP"
            yield words(lines)
            continue
        head, _, rest = lines.partition("\n")
        yield ".PP"
        yield words(head)
        yield from literal(textwrap.dedent(rest))


def one_command(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    """Yield what there is to say about a command."""
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    yield f".SS {escaped(usage)}"
    yield from paragraphs(inspect.cleandoc(command.help or ""))
    for each in command.get_params(context):
        record = each.get_help_record(context) if isinstance(each, click.Option) else None
        if record and "--help" not in record[0]:
            yield ".TP"
            yield f".B {escaped(record[0])}"
            yield words(record[1])


def page() -> str:
    """Return the manual page as it is to be."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    context = click.Context(cli, info_name="fleet")
    yield '.\\" Made by `make man`: edit the code, or tests/docs_man.py, instead.'
    yield f'.TH FLEET 1 "{DATE}" "fleet {__version__}" "User Commands"'
    yield from (".nh", ".ad l")  # commands are not to be cut
    yield ".SH NAME"
    yield "fleet \\- reinstall the operating systems of a fleet of cloud servers"
    yield ".SH SYNOPSIS"
    yield ".B fleet"
    yield "\\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]"
    yield ".br"
    yield ".B fleet"
    yield "[\\fICOMMAND\\fR] \\fB\\-\\-help\\fR | \\fB\\-\\-version\\fR"
    yield ".SH DESCRIPTION"
    yield from paragraphs(DESCRIPTION)
    yield ".SH COMMANDS"
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield from one_command(name, command, context)
    yield ".SH EXIT STATUS"
    yield words("Stable, and made for cron. Every command ends with one of them.")
    for code in Exit:
        remedy = f" {code.remedy[0].upper()}{code.remedy[1:]}." if code.remedy else ""
        yield from (".TP", f".B {int(code)}", words(f"{code.meaning[0].upper()}{code.meaning[1:]}.{remedy}"))
    yield ".SH ENVIRONMENT"
    yield from terms(ENVIRONMENT)
    yield ".SH FILES"
    yield from terms(FILES)
    yield ".SH SIGNALS"
    yield from terms(SIGNALS)
    yield ".SH EXAMPLES"
    for index, (said, example) in enumerate(described(EXAMPLES)):
        if index:
            yield ".PP"
        yield words(said)
        yield from literal(example)
    yield ".SH SEE ALSO"
    yield ".BR crontab (5),"
    yield ".BR systemd.service (5),"
    yield ".BR ansible\\-playbook (1),"
    yield ".BR jq (1)"


def main() -> int:
    """Write the page."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
