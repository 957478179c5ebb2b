"""A real run, a real `fleet watch`, a real browser: servers move, and the page's orders reach the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_support import cut_short, watched
from process_support import Fleet, fleet_on, fleet_text, once_each, plan_text

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: `make browser` installs it")
expect = sync_api.expect
pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


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
            expect(tab.locator("#p-nights tbody")).to_contain_text("waits for approval")
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


def test_everything_is_done_by_keyboard_and_seen_in_any_light(tab, tmp_path: Path, shots: Path) -> None:
    """A dead run is held without a mouse; dialogs keep the focus and give it back; a dead watch is said."""
    fleet = Fleet(tmp_path)
    path = cut_short(tmp_path)
    with watched(fleet, str(path)) as (address, child):
        tab.goto(address)
        expect(tab.locator("#link")).to_have_text("live")
        expect(tab.locator("#p-summary")).to_contain_text("unfinished: its process has ended")
        other = tab.context.browser.new_context().new_page()
        assert other.goto(address).status == 403
        expect(other.locator("#words")).to_contain_text("used before")

        keys = tab.keyboard
        for _ in range(12):
            keys.press("Tab")
            if tab.evaluate("document.activeElement.dataset.verb") == "hold":
                break
        outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "the focus is seen"
        keys.press("Enter")
        dialog = tab.get_by_role("dialog")
        expect(dialog).to_be_visible()
        expect(tab.locator("#reason")).to_be_focused()
        keys.press("Enter")
        expect(dialog).to_be_visible()  # without a reason nothing is asked
        for _ in range(6):
            keys.press("Tab")
            assert tab.evaluate(
                "!!document.activeElement.closest('dialog') || document.activeElement === document.body"
            )
        keys.press("Escape")
        expect(dialog).to_be_hidden()
        assert tab.evaluate("document.activeElement.dataset.verb") == "hold", "the focus is given back"
        keys.press("Enter")
        keys.type("INC-9 <b>bold</b>")
        keys.press("Enter")
        expect(tab.locator("#answer")).to_contain_text("is held")
        expect(tab.locator("#said")).to_contain_text("held: INC-9 <b>bold</b>")
        expect(tab.locator("#p-notes")).to_contain_text("INC-9 <b>bold</b>")
        keys.press("Enter")  # the button has no use now, kept the focus, and says why
        expect(tab.locator("#why")).to_have_text("the run is held already")

        for name, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("phone", "dark", 390)):
            tab.emulate_media(color_scheme=scheme)
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            tab.evaluate("scrollTo(0, 0)")
            tab.screenshot(path=shots / f"watch-held-{name}.png")

        child.kill()
        expect(tab.locator("#link")).to_contain_text("what you see may be old")
        expect(tab.locator("#said")).to_contain_text("what you see may be old")
