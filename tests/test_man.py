"""The manual page: what the code says, in a form that every reader of manual pages takes, and installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import docs_man
import pytest

from fleet.cli.main import cli
from fleet.errors import Exit

PACKAGE = Path(docs_man.__file__).parents[1]
READERS = {
    "mandoc": ["mandoc", "-Tlint", "-Wwarning"],
    "groff": ["groff", "-man", "-Tutf8", "-ww", "-z"],
    "man": ["man", "--warnings", "-l"],
}


def shown(path: Path) -> str:
    done = subprocess.run(
        ["man", "-l", str(path)], capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "200", "MANROFFOPT": "-c", "LANG": "C.UTF-8"},
    )  # fmt: skip
    return re.sub(r".\x08", "", done.stdout)


def test_the_page_is_what_the_code_says() -> None:
    assert docs_man.FILE.read_text() == docs_man.page(), "stale: make man"


@pytest.mark.parametrize("reader", READERS)
def test_readers_take_it_without_a_warning(reader: str) -> None:
    if shutil.which(reader) is None:
        pytest.skip(f"there is no {reader}")
    done = subprocess.run([*READERS[reader], str(docs_man.FILE)], capture_output=True, text=True, check=False)
    complaints = done.stderr + (done.stdout if reader == "mandoc" else "")
    assert (done.returncode, complaints) == (0, "")


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man")
def test_what_people_see_has_every_command_option_code_and_example() -> None:
    """As they were written: a dash that can be copied, a quote that the shell understands."""
    text = " ".join(shown(docs_man.FILE).split())
    for name in cli.list_commands(None):  # type: ignore[arg-type]  # it needs no context
        command = cli.get_command(None, name)  # type: ignore[arg-type]  # as above
        assert command is not None
        assert f"fleet {name} [OPTIONS]" in text
        for option in (each for param in command.params for each in param.opts if each.startswith("--")):
            assert option in text, f"fleet {name} {option}"
    for code in Exit:
        meaning = code.meaning.replace("`", "")
        assert f"{int(code)} {meaning[:1].upper()}{meaning[1:]}." in text
    assert "jq '.servers[] | select(.phase == \"failed\")'" in text
    assert "0 22 * * * . /etc/fleet/openrc && fleet run /etc/fleet/plans/web.yaml --yes --quiet" in text
    assert "`" not in text


def test_every_variable_of_ours_is_explained() -> None:
    """Those that the code asks the environment for, by name."""
    pattern = re.compile(r'(?:environ(?:\.get)?[\[(]|envvar=|^\w+ = )"(FLEET_[A-Z_]+)"', re.MULTILINE)
    asked = {name for path in (PACKAGE / "fleet").rglob("*.py") for name in pattern.findall(path.read_text())}
    assert {"FLEET_STATE_DIR", "FLEET_METRICS_FILE", "FLEET_STANDS_ON"} <= asked, "the pattern finds them"
    explained = {name for term, _ in docs_man.described(docs_man.ENVIRONMENT) for name in term.split(", ")}
    assert not asked - explained


def test_the_wheel_installs_it_where_man_looks() -> None:
    wheel = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert wheel["shared-data"] == {str(docs_man.FILE.relative_to(PACKAGE)): "share/man/man1/fleet.1"}
