"""The live display: it fits the screen, whatever is in flight."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from support import AT, make_run

from fleet.core import events as ev
from fleet.core.state import apply
from fleet.report.progress import Progress


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 12)])
@pytest.mark.parametrize("failed", [0, 3, 12])
def test_it_fits_the_screen(width: int, height: int, failed: int) -> None:
    """No line is longer than the screen, and what does not fit is counted."""
    run = make_run(60, waves=(60,), concurrency=60, hold_after=60)
    for server in list(run.servers)[:45]:
        apply(run, ev.Admitted(server=server), AT)
    for server in list(run.servers)[:failed]:
        apply(run, ev.Failed(server=server, reason="\x1b[2Jno " + "very long reason " * 20), AT)
    out = io.StringIO()
    console = Console(file=out, width=width, height=height)
    console.print(Progress(run, lambda: AT))
    lines = out.getvalue().splitlines()
    assert len(lines) < height
    assert max(len(line) for line in lines) <= width
    assert "\x1b" not in out.getvalue()
    text = " ".join(line.strip() for line in lines)
    assert "web" in text
    assert "Ctrl-C" in text
    if height < 50:
        assert "in flight" in text
    assert text.count("failed: ") <= 5
