"""What axe-core finds: the live page, its dialog and the report, by day and by night, folded and not."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_support import RULES, cut_short, watched
from process_support import Fleet

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: `make browser` installs it")
expect = sync_api.expect
pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


def found(tab, axe: str) -> list[str]:
    """Return what is wrong with the page as it stands: the rule, and where."""
    tab.evaluate(axe)  # by the browser's own hand: the page's policy lets no foreign script in
    result = tab.evaluate(f"axe.run({RULES})")
    assert len(result["passes"]) > 15, "it has looked"
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:150]}: {node['failureSummary']}"
        for each in result["violations"]
        for node in each["nodes"][:3]
    ]


def looked_at(tab, axe: str, shots: Path, name: str) -> None:
    """Look by day and by night, as it is first shown and with everything unfolded."""
    wrong = []
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        wrong += [f"{name}, {scheme}: {each}" for each in found(tab, axe)]
        tab.screenshot(path=shots / f"axe-{name}-{scheme}.png")
    assert wrong == []


def test_nothing_stands_in_the_way_of_a_screen_reader_or_of_weak_eyes(
    tab, axe: str, tmp_path: Path, shots: Path
) -> None:
    """No rule of WCAG 2.2 AA is broken, on no page, in no light."""
    fleet = Fleet(tmp_path)
    path = cut_short(tmp_path)
    with watched(fleet, str(path)) as (address, _):
        tab.goto(address)
        expect(tab.locator("#link")).to_have_text("live")
        looked_at(tab, axe, shots, "watch")
        tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        looked_at(tab, axe, shots, "watch-unfolded")
        tab.get_by_role("button", name="Hold…").click()
        expect(tab.get_by_role("dialog")).to_be_visible()
        looked_at(tab, axe, shots, "watch-dialog")
    assert fleet("report", str(path), "--to", str(tmp_path / "page.html")).code == 0
    tab.goto(f"file://{tmp_path / 'page.html'}")
    looked_at(tab, axe, shots, "report")
    tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    looked_at(tab, axe, shots, "report-unfolded")
    fleet.close()
