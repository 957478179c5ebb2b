"""Break each rule on purpose, and see which test notices.

    python tests/mutants/run.py [--only NAME ...] [--jobs 2] [--output FILE]

Each mutant is one replacement in one file of a copy of the tree; the tests then run in that copy, those that
are expected to notice first. A mutant that no test notices is a hole in the tests; one whose text is not
found exactly once is out of date. Both end the command with 1. The table goes to standard output as Markdown.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
LIMIT_S = 600


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    mutant: Mutant
    noticed_by: str | None
    took_s: float
    problem: str = ""


def copy_tree(to: Path) -> None:
    """Copy what is tracked, as it stands in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def put_in(mutant: Mutant, tree: Path) -> str:
    """Put the bug into the copy; return what is wrong with the mutant, or nothing."""
    path = tree / mutant.file
    text = path.read_text()
    if (count := text.count(mutant.old)) != 1:
        return f"its text stands {count} times in {mutant.file}"
    path.write_text(text.replace(mutant.old, mutant.new))
    compile_it = [sys.executable, "-m", "py_compile", str(path)]
    compiled = subprocess.run(compile_it, capture_output=True, check=False)
    return "" if compiled.returncode == 0 else f"it is no Python: {compiled.stderr.decode()[-200:]}"


class NotRunError(Exception):
    """The tests could not be run: nobody has noticed anything."""


def test(tree: Path, where: list[str]) -> str | None:
    """Run tests in the copy; return the first that fails, or None.

    Raises:
        NotRunError: pytest ended otherwise, for example since there is no such file.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *where]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "the tests did not end"
    if done.returncode == 0:
        return None
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" - ")[0].split(" ", 1)[1]
    raise NotRunError(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-200:]}")


def judge(mutant: Mutant) -> Outcome:
    """Make one mutant and see who notices."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        if problem := put_in(mutant, tree):
            return Outcome(mutant, None, 0.0, problem)
        try:
            noticed = test(tree, list(mutant.tests)) if mutant.tests else None
            if noticed is None:
                noticed = test(tree, ["tests"])
        except NotRunError as error:
            return Outcome(mutant, None, time.monotonic() - began, str(error))
    return Outcome(mutant, noticed, time.monotonic() - began)


def main() -> int:
    """Judge them all; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.only or mutant.name in options.only]
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(judge, chosen):
            outcomes.append(outcome)
            words = outcome.problem or outcome.noticed_by or "NOBODY"
            print(f"{outcome.mutant.name}: {words} ({outcome.took_s:.0f} s)", file=sys.stderr, flush=True)
    lines = ["| mutant | the rule it breaks | noticed by |", "| --- | --- | --- |"]
    lines += [
        f"| {outcome.mutant.name} | {outcome.mutant.rule} | "
        f"{f'`{outcome.noticed_by}`' if outcome.noticed_by else '**nobody** ' + outcome.problem} |"
        for outcome in outcomes
    ]
    noticed = sum(outcome.noticed_by is not None for outcome in outcomes)
    lines += ["", f"{noticed} of {len(outcomes)} noticed."]
    table = "\n".join(lines)
    print(table)
    if options.output:
        options.output.write_text(table + "\n")
    return 0 if noticed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
