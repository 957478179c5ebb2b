"""The completion script in a real shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process


def test_bash_completes_commands_and_run_ids(tmp_path: Path) -> None:
    """Sourced as a user would, with the runs of the state folder and no cloud."""
    state, programs = tmp_path / "state", Path(sys.executable).parent
    journal = state / "web-20260101T000000Z-abcd" / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    journal.touch()
    script = """
    set -e
    source <(fleet completion bash)
    complete -p fleet >/dev/null
    COMP_WORDS=(fleet "$1" "$2"); COMP_CWORD="$3"
    _fleet_completion fleet
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FLEET_STATE_DIR": str(state),
    }

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", script, "bash", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert {"release", "rehearse"} <= set(completed("re", "", "1"))
    assert completed("status", "web", "2") == [journal.parent.name]
