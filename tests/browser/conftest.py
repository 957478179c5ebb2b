"""The browser: Debian's Chromium, driven by playwright. Without either the tests are skipped, and say so."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: `make browser` installs it")
    if CHROMIUM is None:
        pytest.skip("no chromium: `make browser` says how to get it")
    sync_api.expect.set_options(timeout=30_000)
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox needs privileges that root in a container does not have.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def tab(browser, request) -> Iterator:
    """A tab whose console has to stay free of errors."""
    options = {"viewport": {"width": 1280, "height": 900}} | getattr(request, "param", {})
    context = browser.new_context(**options)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None
    )
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where screenshots go: FLEET_SHOTS, or nowhere that lasts."""
    folder = Path(os.environ.get("FLEET_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def axe() -> str:
    """Return axe-core's source, or skip with the reason why it cannot be had."""
    done = subprocess.run([HERE / "axe.sh"], capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    if done.returncode != 0:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    return Path(HERE.parents[1], done.stdout.strip()).read_text()
