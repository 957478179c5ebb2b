"""The pages in Firefox, the distribution's own: they live, they take orders, they read well."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from browser_support import RULES, cut_short, watched
from firefox_support import FIREFOX, Tab, firefox
from process_support import Fleet

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(240),
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox: apt install firefox-esr"),
]


async def read_well(tab: Tab, axe: str, shots: Path, name: str) -> None:
    """Nothing is wider than the screen, nothing was complained of, and axe-core finds nothing."""
    for width in (1280, 390):
        await tab.size(width)
        await tab.until(f"document.documentElement.scrollWidth <= {width}")
        await tab.screenshot(shots / f"firefox-{name}-{width}.png")
    await tab.evaluate(f"(() => {{ {axe}; }})()")
    result = await tab.evaluate(f"axe.run({RULES})")
    assert len(result["passes"]) > 15, "it has looked"
    assert [(each["id"], each["nodes"][0]["html"]) for each in result["violations"]] == []
    assert tab.errors == []


@pytest.mark.parametrize("light", ["light", "dark"])
def test_page_and_report_read_well_in_firefox(tmp_path: Path, shots: Path, axe: str, light: str) -> None:
    """The page is live there and holds a run; the report needs nothing else."""
    fleet = Fleet(tmp_path)
    path = cut_short(tmp_path)

    async def look() -> None:
        async with firefox(tmp_path, dark=light == "dark") as tab:
            with watched(fleet, str(path)) as (address, _):
                await tab.goto(address)
                await tab.until("document.getElementById('link')?.textContent === 'live'")
                await tab.evaluate("document.querySelector('[data-verb=hold]').click()")
                await tab.until("document.getElementById('ask').open")
                await tab.evaluate("document.getElementById('reason').value = 'INC-4711'")
                await tab.screenshot(shots / f"firefox-dialog-{light}.png")
                await tab.evaluate("document.getElementById('give').click()")
                await tab.until("document.getElementById('p-summary').textContent.includes('held: INC-4711')")
                await read_well(tab, axe, shots, f"watch-{light}")
            assert fleet("report", str(path), "--to", str(tmp_path / "page.html")).code == 0
            await tab.goto(f"file://{tmp_path / 'page.html'}")
            await read_well(tab, axe, shots, f"report-{light}")

    try:
        # A thread of its own: playwright keeps a loop in this one as long as its browser lives.
        with ThreadPoolExecutor(1) as aside:
            aside.submit(lambda: asyncio.run(look())).result()
    finally:
        fleet.close()
