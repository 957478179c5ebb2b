"""A run as an Ansible inventory: everybody in exactly one group, under a name that is nobody else's."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from click.testing import CliRunner
from support import AT, event_for, make_run

from fleet.cli.status import status
from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.model import ServerId
from fleet.core.state import Run
from fleet.journal import Journal
from fleet.report.inventory import GROUPS, as_inventory, names
from fleet.report.status import figures


def _run() -> Run:
    run = make_run(8, waves=(8,), hold_after=5)
    first, second, *others = run.opened.members
    twins = (
        msgspec.structs.replace(first, name="twin", addresses=("10.0.0.1", "10.0.0.2")),
        msgspec.structs.replace(second, name="twin"),
    )
    run = Run(msgspec.structs.replace(run.opened, members=(*twins, *others)), AT)
    ways: dict[int, tuple[type, ...]] = {
        3: (ev.Admitted,),
        4: (ev.Admitted, ev.Stopped, ev.ReinstallRequested),
        5: (ev.Admitted, ev.Failed),
        6: (ev.Skipped,),
    }
    for n, kinds in ways.items():
        for kind in kinds:
            apply(run, event_for(kind, ServerId(f"web-{n}")), AT)
    return run


def test_everybody_is_in_one_group_and_the_groups_are_the_figures() -> None:
    run = _run()
    groups = as_inventory(run)["all"]["children"]
    hosts = [host for name in GROUPS for host in groups[name]["hosts"]]
    assert len(hosts) == len(set(hosts)) == 8
    told = figures(run)
    assert {name: len(groups[name]["hosts"]) for name in GROUPS} == {name: told[name] for name in GROUPS}
    assert list(groups["in_doubt"]["hosts"]) == ["web-4"]
    assert list(groups["failed"]["hosts"]) == ["web-5"]


def test_servers_that_share_a_name_are_called_by_their_ids() -> None:
    hosts = as_inventory(_run())["all"]["children"]["never_touched"]["hosts"]
    assert list(hosts) == ["web-1", "web-2", "web-7", "web-8"]
    assert hosts["web-1"]["ansible_host"] == "10.0.0.1"
    assert "ansible_host" not in hosts["web-2"]


def test_names_for_a_pipe() -> None:
    assert list(names(_run(), ("failed", "skipped"))) == ["web-5", "web-6"]
    assert len(list(names(_run()))) == 8


def test_the_command(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    written = Journal.create(journal)
    written.append(make_run().opened, AT)
    written.close()
    runner = CliRunner()
    done = runner.invoke(status, [str(journal), "-o", "ansible"], standalone_mode=False)
    assert done.output == runner.invoke(status, [str(journal), "-o", "inventory"]).output
    assert len(json.loads(done.output)["all"]["children"]["never_touched"]["hosts"]) == 6
    done = runner.invoke(
        status, [str(journal), "-o", "names", "--only", "never_touched"], standalone_mode=False
    )
    assert done.output.split() == [f"web-{n}" for n in range(1, 7)]
    refused = runner.invoke(status, [str(journal), "--only", "failed"])
    assert refused.exit_code == 2
