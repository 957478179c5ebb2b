"""The terminal under the live display: it may hold us, go away, or fail, and the run does not notice."""

from __future__ import annotations

import io
import sys
import threading

import click
import pytest
import structlog
from support import glance_at, make_run

from fleet import logs
from fleet.report.screen import Screen


class Terminal(io.StringIO):
    """A terminal that can be held, as by Ctrl-S, and can break."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.flows = threading.Event()
        self.flows.set()
        self.broken = False

    def write(self, text: str) -> int:
        assert self.flows.wait(30)
        if self.broken:
            raise OSError("gone")
        return super().write(text)


@pytest.fixture(autouse=True)
def _as_before():
    yield
    structlog.reset_defaults()


def test_a_terminal_that_is_held_holds_nobody() -> None:
    """Ctrl-S, or a window that is being scrolled: who logs does not wait; it is said afterwards."""
    terminal, before = Terminal(), sys.stderr
    logs.configure(as_json=True)
    with Screen(terminal, mine=True) as screen:
        screen.show(glance_at(make_run()))
        terminal.flows.clear()
        done = threading.Event()

        def work() -> None:
            for number in range(1000):
                structlog.get_logger().warning("Failed", server=f"web-{number}")
            click.echo("warning: said by a command", err=True)
            done.set()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        assert done.wait(20), "it waits for the terminal"
        terminal.flows.set()
    assert sys.stderr is before
    text = terminal.getvalue()
    assert "web-999" in text
    assert "warning: said by a command" in text
    assert "6 servers = 6 never touched" in text


def test_a_terminal_that_breaks_is_done_without() -> None:
    terminal = Terminal()
    with Screen(terminal, mine=True) as screen:
        terminal.broken = True
        screen.show(glance_at(make_run()))
        print("a line", file=sys.stderr)
    assert screen.failed is None


def test_a_display_that_fails_leaves_the_terminal_and_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stderr
    with Screen(Terminal(), mine=True) as screen:
        screen.show("no glance")  # type: ignore[arg-type]
    assert isinstance(screen.failed, AttributeError)
    assert sys.stderr is before


def test_who_watches_keeps_standard_error() -> None:
    before = sys.stderr
    with Screen(Terminal(), mine=False) as screen:
        screen.say("there is no run [yet]")
        assert sys.stderr is before
