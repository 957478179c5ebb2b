"""Three thousand servers in a browser: the live page while they move, the report on screen and on paper."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from browser_support import lines_of, night, watched
from process_support import Fleet

from fleet.runs import lock_run

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: `make browser` installs it")
expect = sync_api.expect
pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SERVERS = 3000


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()


def half(folder: Path) -> tuple[Path, list[bytes]]:
    """Write the first half of a night that has come to its middle just now; return the other half."""
    lines = list(lines_of(night(datetime.now(UTC) - timedelta(hours=1), SERVERS)))
    now = datetime.now(UTC)
    written = [line for at, line in lines if at <= now]
    path = folder / "night" / "journal.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"".join(written))
    return path, [line for _, line in lines[len(written) :]]


def test_the_live_page_stays_usable_while_thousands_move(
    tab, fleet: Fleet, tmp_path: Path, shots: Path
) -> None:
    """Rows that have not moved stay the very elements that they were; a click is answered at once."""
    path, rest = half(tmp_path)
    lock = lock_run(path)  # a process works on it
    done = threading.Event()

    def go_on() -> None:  # as fast as a hundred servers at once do it on a real cloud, twice over
        with path.open("ab", buffering=0) as file:
            for line in rest:
                if done.wait(0.05):
                    return
                file.write(line)

    writer = threading.Thread(target=go_on)
    try:
        with watched(fleet, str(path)) as (address, _):
            tab.goto(address)
            expect(tab.locator("#link")).to_have_text("live")
            tab.evaluate("for (const row of document.querySelectorAll('.row')) row.kept = 1")
            verified = tab.locator("#p-summary .good b")
            before = int(verified.inner_text())
            writer.start()
            expect(verified).not_to_have_text(str(before))
            for _ in range(2):  # several updates, one after the other
                now = verified.inner_text()
                expect(verified).not_to_have_text(now)
            took = tab.evaluate(
                """async () => { const began = performance.now();
                document.getElementById("text").value = "web-17";
                document.getElementById("text").dispatchEvent(new Event("input"));
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                return performance.now() - began; }"""
            )
            assert took < 2000, "a filter over three thousand; a fifth of a second on an idle machine"
            tab.locator("#text").fill("")
            kept, rows = tab.evaluate(
                "[[...document.querySelectorAll('.row')].filter((row) => row.kept).length, "
                "document.querySelectorAll('.row').length]"
            )
            assert rows > before
            assert kept > before * 0.9, "only what has moved is drawn anew"
            tab.screenshot(path=shots / "watch-3000.png")
    finally:
        done.set()
        writer.join()
        lock.release()


@pytest.mark.parametrize(
    "tab",
    [
        {"color_scheme": "light"}, {"color_scheme": "dark"},
        {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
    ],
    indirect=True, ids=["light", "dark", "phone"],
)  # fmt: skip
def test_the_report_of_three_thousand_is_usable(
    tab, fleet: Fleet, tmp_path: Path, shots: Path, request
) -> None:
    """Nothing is wider than the screen, a screenful or a few tell all, and what is folded is not printed."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(
        b"".join(line for _, line in lines_of(night(datetime(2026, 12, 5, 20, tzinfo=UTC), SERVERS)))
    )
    assert fleet("report", str(path), "--to", str(tmp_path / "page.html")).code == 0
    began = time.monotonic()
    tab.goto(f"file://{tmp_path / 'page.html'}")
    tab.locator("#ticks span").nth(1).wait_for(state="attached")
    assert time.monotonic() - began < 20
    width, wide, high = tab.evaluate(
        "[innerWidth, document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert wide <= width
    assert high < 5000
    tab.screenshot(path=shots / f"report-3000-{request.node.callspec.id}.png")
    tab.get_by_label("Filter").fill("web-1234")
    expect(tab.locator("#shown")).to_have_text("1 servers")
    expect(tab.locator(".row:visible")).to_have_count(1)
    tab.get_by_label("Filter").fill("")
    tab.get_by_role("button", name="this wave's time only").last.click()
    expect(tab.get_by_role("button", name="show the whole run")).to_be_visible()
    tab.get_by_role("button", name="show those verified too").last.click()
    assert tab.locator(".row:visible").count() > SERVERS / 2
    tab.reload()
    printed = tab.pdf(path=shots / "report-3000.pdf", format="A4", print_background=True)
    assert printed.count(b"/Type /Page\n") < 8
