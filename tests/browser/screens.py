"""Take the pictures of the live page and of the report that the documentation shows: `make screens`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from browser_support import lines_of, night, watched  # noqa: E402
from process_support import Fleet  # noqa: E402

from fleet.core.events import RunHeld  # noqa: E402
from fleet.journal import Journal, load  # noqa: E402
from fleet.runs import lock_run  # noqa: E402

SCREENS = ROOT / "docs" / "screens"


def written(fleet: Fleet, servers: int, minutes: float, **how: Any) -> Path:
    """Write a night that began so many minutes ago, as far as it has come."""
    begin = datetime.now(UTC) - timedelta(minutes=minutes)
    lines = [line for at, line in lines_of(night(begin, servers, **how)) if at <= datetime.now(UTC)]
    path = fleet.state / f"web-tier-{begin:%Y%m%dT%H%M%SZ}-4k2m" / "journal.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(lines))
    return path


@contextlib.contextmanager
def shown(browser: Any, fleet: Fleet, path: Path, **options: Any) -> Iterator[Any]:
    """Show a run in a tab of its own."""
    with watched(fleet, path.parent.name) as (address, _):
        context = browser.new_context(**options)
        tab = context.new_page()
        tab.goto(address)
        tab.locator("#link", has_text="live").wait_for()
        yield tab
        context.close()


def main() -> None:
    """Write docs/screens."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - `make browser` installs it

    SCREENS.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        fleet = Fleet(Path(folder))
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)

        running = written(fleet, 60, 17, concurrency=8, every=20)
        with contextlib.closing(_Lock(running)):
            size = {"width": 1200, "height": 1500}
            with shown(browser, fleet, running, viewport=size, color_scheme="light") as tab:
                tab.screenshot(path=SCREENS / "watch-light.png")
            with shown(
                browser, fleet, running, viewport={"width": 390, "height": 844}, color_scheme="light"
            ) as tab:
                tab.screenshot(path=SCREENS / "watch-phone.png")

        found, tail = load(running)
        journal = Journal.reopen(running, tail)
        journal.append(RunHeld(reason="1 of web failed, 0 allowed"), datetime.now(UTC))
        journal.close()
        size = {"width": 1200, "height": 800}
        with shown(browser, fleet, running, viewport=size, color_scheme="dark") as tab:
            tab.get_by_role("button", name="Release…").click()
            tab.locator("#reason").fill("quota raised, CHG-1234")
            tab.screenshot(path=SCREENS / "watch-held-dark.png")
        del found

        large = written(fleet, 3000, 60, concurrency=100)
        with (
            contextlib.closing(_Lock(large)),
            shown(
                browser, fleet, large, viewport={"width": 1200, "height": 1100}, color_scheme="dark"
            ) as tab,
        ):
            tab.evaluate("document.getElementById('p-down').scrollIntoView()")
            tab.screenshot(path=SCREENS / "watch-3000-dark.png")

        over = written(fleet, 3000, 200, concurrency=100)
        page = Path(folder) / "page.html"
        assert fleet("report", over.parent.name, "--to", str(page)).code == 0
        tab = browser.new_context(viewport={"width": 1000, "height": 1400}).new_page()
        tab.goto(f"file://{page}")
        tab.screenshot(path=SCREENS / "report-3000.png")
        if shutil.which("pdftoppm"):
            tab.pdf(
                path=Path(folder) / "page.pdf", format="A4", print_background=True, prefer_css_page_size=True
            )
            command = ["pdftoppm", "-r", "60", "-png", "-f", "1", "-l", "1", f"{folder}/page.pdf"]
            subprocess.run([*command, "-singlefile", str(SCREENS / "report-printed")], check=True)
        browser.close()
    for path in sorted(SCREENS.glob("*.png")):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB")


class _Lock:
    """A process that works on the run, as far as others can see."""

    def __init__(self, path: Path) -> None:
        self._lock = lock_run(path)

    def close(self) -> None:
        self._lock.release()


if __name__ == "__main__":
    main()
