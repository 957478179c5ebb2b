"""A real run, a real `fleet watch`, a real browser: servers move, and the page's orders reach the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from process_support import Child, Fleet, fleet_on, fleet_text, once_each, plan_text, wait_until

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: `make browser` installs it")
expect = sync_api.expect
pytestmark = pytest.mark.process


@contextmanager
def watched(fleet: Fleet, *arguments: str) -> Iterator[tuple[str, Child]]:
    """Start `fleet watch`; yield the address that it prints."""
    child = fleet.start("watch", *arguments)
    out = fleet.folder / f"{fleet.number}.out"
    yield wait_until(lambda: out.read_text().endswith("\n") and out.read_text().strip(), "the address"), child
    if child.process.poll() is None:
        child.signal(15)
        assert child.wait().code == 0
    assert "Traceback" not in child.err


def order(tab, verb: str, reason: str) -> None:
    tab.get_by_role("button", name=f"{verb}…").click()
    dialog = tab.get_by_role("dialog")
    expect(dialog).to_be_visible()
    tab.get_by_label("Reason, for the journal").fill(reason)
    dialog.get_by_role("button", name=verb, exact=True).click()
    expect(dialog).to_be_hidden()


def test_a_run_is_watched_and_steered_from_its_page(tab, tmp_path: Path, shots: Path) -> None:
    """Servers move without a reload; all four orders are in the journal, with reason and name."""
    with fleet_on(tmp_path, fleet_text(14, speed=80)) as (fleet, cloud):
        text = plan_text(waves="[2, 4, 100%]", concurrency=2).replace(
            "max_failures: 0", "max_failures: 0, approve_after: 1"
        )
        plan = fleet.plan(text)
        run = fleet.start("run", plan, "--yes")
        fleet.wait_for("Admitted", child=run)
        with watched(fleet) as (address, _):
            tab.goto(address)
            expect(tab.locator("#link")).to_have_text("live")
            assert "#" not in tab.url, "the token is not in the history"
            expect(tab.locator(".row")).to_have_count(2)  # grows by itself, from one or none
            # The first wave is done, and waits for a person; its process has ended with 6.
            assert run.wait().code == 6
            expect(tab.locator("#p-summary")).to_contain_text("waits for approval")
            expect(tab.locator('.row[data-p="verified"]')).to_have_count(2)
            expect(tab.locator("#said")).to_contain_text("waits for approval")
            order(tab, "Approve", "canary looked at, CHG-1")
            expect(tab.locator("#answer")).to_have_text("wave 1 of p is approved")

            run = fleet.start("run", plan, "--yes")
            expect(tab.locator("#p-summary")).to_contain_text("running")
            expect(tab.locator(".row i.open").first).to_be_visible()
            tab.screenshot(path=shots / "watch-running.png")
            order(tab, "Hold", "INC-4711")
            expect(tab.locator("#answer")).to_contain_text("is held")
            expect(tab.locator("#p-summary")).to_contain_text("held: INC-4711")
            assert run.wait().code == 4
            expect(tab.get_by_role("button", name="Hold…")).to_have_attribute("aria-disabled", "true")
            order(tab, "Release", "mended, CHG-2")
            expect(tab.locator("#answer")).to_contain_text("is released")

            admitted = fleet.count("Admitted")
            run = fleet.start("run", plan, "--yes")
            fleet.wait_for("Admitted", admitted + 1, child=run)
            expect(tab.get_by_role("button", name="Drain…")).to_have_attribute("aria-disabled", "false")
            order(tab, "Drain", "host reboots")
            expect(tab.locator("#answer")).not_to_contain_text("asked…")
            assert run.wait().code == 5
            expect(tab.locator("#p-summary")).to_contain_text("drained")
            run = fleet.start("run", plan, "--yes")
            assert run.wait().code == 0, run.err
            expect(tab.locator("#p-summary")).to_contain_text("14 verified")
            expect(tab.locator("#p-summary")).to_contain_text("finished")
            expect(tab.locator('.row[data-p="verified"]')).to_have_count(14)
            assert tab.title().startswith("14/14")
        assert cloud.reinstalls() == once_each(14)
        told = {each["event"]: each for each in fleet.events() if each.get("by")}
        assert {each["by"].split(":")[0] for each in told.values()} == {"watch"}
        assert told["RunReleased"]["reason"] == "mended, CHG-2"
        assert told["Approved"]["reason"] == "canary looked at, CHG-1"
        assert "INC-4711" in told["RunHeld"]["reason"]
