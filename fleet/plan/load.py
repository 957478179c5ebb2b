"""From a plan file to settings, or to everything that is wrong with it at once."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.core.settings import Settings
from fleet.errors import PlanError, Problem
from fleet.plan.check import Checker, legal_name
from fleet.plan.convert import to_settings
from fleet.plan.elsewhere import not_on_this_cloud
from fleet.plan.files import Files
from fleet.plan.merge import Entry, fill_up
from fleet.plan.messages import nothing_given, parse
from fleet.plan.model import Plan, Target
from fleet.plan.reader import MAX_BYTES, Document, Loc, kind_of, read


@dataclass(frozen=True)
class LoadedPlan:
    """A plan without mistakes.

    Attributes:
        path: The file as the user gave it.
        settings: The plan, resolved.
        warnings: What is odd and stops nothing.
        user_data: Sources of user data by their sha256, as `Settings` refers to them.
    """

    path: Path
    settings: Settings
    warnings: tuple[Problem, ...]
    user_data: Mapping[str, bytes]
    _document: Document = field(repr=False, compare=False)

    def located(self, problem: Problem) -> Problem:
        """Add file, line and column to a problem that only knows its path, such as one of `resolve`."""
        if problem.file is not None or not problem.path:
            return problem
        loc: Loc = ()
        for word in problem.path.replace("]", "").replace("[", ".").split("."):
            for part in (word, int(word) if word.isdecimal() else word):
                if self._document.has(*loc, part):
                    loc = (*loc, part)
                    break
        placed = self._document.problem(loc, problem.message, problem.hint, at_key=True)
        return replace(placed, path=problem.path)


def load_plan(path: Path) -> LoadedPlan:
    """Read and check a plan, without asking any cloud.

    Raises:
        PlanError: The plan cannot be used; all that is wrong with it, in the order of the file.
    """
    content = _content(path)
    document = read(content, str(path))
    problems = [*document.problems, *nothing_given(document)]
    data = document.data if isinstance(document.data, dict) else {}
    rest = {name: value for name, value in data.items() if name != "targets"}
    plan = parse(Plan, rest, (), document, problems) or Plan.model_construct()
    entries = _entries(document, plan, problems)
    fill_up(plan, entries)

    folder = path.absolute().parent
    files = Files(document, folder)
    name = plan.name or legal_name(path.stem)
    checker = Checker(document, plan, entries, files)
    checker.check(name)
    digest = hashlib.sha256(content).hexdigest()
    settings = to_settings(plan, entries, files, name=name, digest=digest, folder=str(folder))

    problems += checker.problems + files.problems + list(not_on_this_cloud(document, entries))
    if problems:
        raise PlanError(*in_file_order(problems))
    return LoadedPlan(
        path=path,
        settings=settings,
        warnings=in_file_order(files.warnings),
        user_data=dict(files.user_data),
        _document=document,
    )


def in_file_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort by place and drop repetitions: a fault in the defaults meets every target."""
    different = {(problem.line, problem.column, problem.message): problem for problem in problems}
    return tuple(sorted(different.values(), key=lambda problem: (problem.line or 0, problem.column or 0)))


def _entries(document: Document, plan: Plan, problems: list[Problem]) -> list[Entry]:
    """Parse every target by itself, so that one with mistakes hides no other."""
    if not document.has("targets"):
        return [Entry(document, (), plan)]
    given = document.get("targets")
    places: list[Loc] = [("targets",)]
    if isinstance(given, list):
        places = [("targets", index) for index in range(len(given))]
        if not given:
            problems.append(
                document.problem(("targets",), "there are no targets in the list", "add one: `- name: web`")
            )
    elif given is not None and not isinstance(given, dict):
        problems.append(
            document.problem(
                ("targets",), f"a list was expected, found {kind_of(given)}", "write `- name: web` below it"
            )
        )
        return []
    return [
        Entry(document, loc, None if found is None else parse(Target, found, loc, document, problems))
        for loc in places
        for found in (document.get(*loc),)
    ]


def _lies_there(file: str) -> str | None:
    try:
        return file if Path(file).is_file() else None
    except OSError:  # too long a name with the suffix
        return None


def _content(path: Path) -> bytes:
    file = str(path)
    try:
        # Opened without waiting: a named pipe that nobody writes to would keep us for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if stat.S_ISREG(mode):
                return opened.read(MAX_BYTES + 1)
        problem = Problem("this is no regular file", hint="write the plan to a file", file=file)
    except FileNotFoundError:
        # `resume` and `retry` take a plan by its name; who has just typed that gives it here as well.
        meant = _lies_there(f"{path}.yaml") or _lies_there(f"{path}.yml")
        hint = f"did you mean {meant}?" if meant else "check the path"
        problem = Problem("there is no such file", hint=hint, file=file)
    except IsADirectoryError:
        problem = Problem("this is a folder", hint="name the plan file in it", file=file)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "the path is not usable"
        problem = Problem(f"the plan cannot be read: {said}", hint="check the path and its rights", file=file)
    raise PlanError(problem)
