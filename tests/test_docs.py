"""Every page says what is: its commands run, its plans are valid, its links lead somewhere."""

from __future__ import annotations

import contextlib
import copy
import inspect
import re
import shlex
import shutil
from pathlib import Path

import click
import docs_reference
import pytest
import yaml
from click.testing import CliRunner
from docs_support import (
    DOCS,
    LANGUAGES,
    ROOT,
    SHELLS,
    Block,
    Command,
    Shell,
    anchors,
    blocks,
    commands,
    links,
    missing,
    name_of,
    pages,
    prose,
)

from fleet.cli.main import cli
from fleet.cloud.simulator.fleetfile import parse_fleet
from fleet.errors import Exit, PlanError
from fleet.plan import load_plan

PAGES = [pytest.param(page, id=name_of(page)) for page in pages()]
WITH_COMMANDS = [
    pytest.param(page, id=name_of(page))
    for page in pages()
    if any(block.language in SHELLS and "not run" not in block.notes for block in blocks(page))
]


def where(page: Path, line: int) -> str:
    return f"{name_of(page)}:{line}"


@pytest.mark.process
@pytest.mark.timeout(400)  # a page is a dozen processes, one after the other
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    """Typed in their order, into one shell: they end with the code shown, and print what is shown."""
    shutil.copytree(ROOT / "plans", tmp_path / "plans")
    shell = Shell(tmp_path)
    try:
        for block in blocks(page):
            if "file" in block.notes:
                path = tmp_path / shell.substitute(block.notes["file"])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(shell.substitute(block.text))
                if path.read_text().startswith("#!"):
                    path.chmod(0o755)
            elif block.language == "cron":
                for line in block.lines:
                    if line.strip() and not line.startswith("#"):
                        command = Command(line.split(None, 5)[5], block.line)
                        assert typed(page, command, shell) == "", f"{where(page, block.line)}: cron mails it"
            elif block.language in {"setup", *SHELLS} and "not run" not in block.notes:
                for command in commands(block):
                    typed(page, command, shell)
    finally:
        shell.close()


def typed(page: Path, command: Command, shell: Shell) -> str:
    """Run a command, and return what it wrote."""
    code, output = shell.run(command)
    said = f"{where(page, command.line)}: {command.text}\n{output[-4000:]}"
    if code != command.exits:
        pytest.fail(f"ended with {code}, not with {command.exits}: {said}", pytrace=False)
    if (absent := missing(command, output, shell)) is not None:
        pytest.fail(f"does not print {absent!r}: {said}", pytrace=False)
    return output


@pytest.mark.parametrize("page", PAGES)
def test_the_yaml_of_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    """A plan, a part of one or a fleet file says nothing that `fleet` would refuse."""
    shutil.copytree(ROOT / "plans" / "cloud-init", tmp_path / "cloud-init")
    found = [block for block in blocks(page) if "not a plan" not in block.notes]
    for block in found:
        if "file" in block.notes and "/" not in block.notes["file"]:
            (tmp_path / block.notes["file"]).write_text(block.text)
    for number, block in enumerate(block for block in found if block.language == "yaml"):
        if block.notes.get("file", "").endswith(".j2"):
            continue
        data = yaml.safe_load(block.text)
        if "servers" in data or "faults" in data:
            parse_fleet(block.text, name=where(page, block.line))
            continue
        if "part of a plan" in block.notes:
            text = completed(block, data)
        else:
            assert {"select", "targets"} & set(data), f"{where(page, block.line)}: is it a part of a plan?"
            text = block.text
        text = text.replace("/etc/fleet/", "./etc/fleet/")
        for name in re.findall(r"(?<![\w/])\./[\w./-]+", text):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o700)
        path = tmp_path / f"plan-{number}.yaml"
        path.write_text(text)
        try:
            load_plan(path)
        except PlanError as error:
            pytest.fail(f"{where(page, block.line)}: {error}\n{text}", pytrace=False)


def completed(block: Block, data: dict[str, object]) -> str:
    """Add what makes a plan of a part of one: whom, and with what."""
    text = block.text
    if not {"targets", "select"} & set(data):
        text += "select: {name: web-1}\n"
    if "key_pair" not in text and "admin_password" not in text:
        text += "key_pair: KeyPair-350b\n"
    return text


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    for link in links(page):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}: there is no such file"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name_of(page)}: {link}: there are {sorted(anchors(target))}"


def test_every_page_is_on_the_map() -> None:
    """Whoever starts at docs/README.md finds all of them."""
    index = DOCS / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    lost = [name_of(page) for page in DOCS.rglob("*.md") if page.resolve() not in linked | {index.resolve()}]
    assert not lost, f"not linked from docs/README.md: {lost}"


@pytest.mark.parametrize("page", PAGES)
def test_a_block_says_what_it_is(page: Path) -> None:
    """A block of a language that nobody knows would be run by nobody; a block that is not run says why."""
    for block in blocks(page):
        assert block.language in LANGUAGES | {"setup"}, f"{where(page, block.line)}: {block.language!r}"
        if "not run" in block.notes:
            assert len(block.notes["not run"].split()) >= 3, f"{where(page, block.line)}: why is it not run?"
            assert block.language in SHELLS, f"{where(page, block.line)}: nobody would run it anyway"


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_not_run_are_commands(page: Path) -> None:
    """What a test cannot run must at least be understood: no option that does not exist."""
    for block in blocks(page):
        if "not run" in block.notes:
            for command in commands(block):
                parsed(command.text, where(page, command.line))


@pytest.mark.parametrize("page", PAGES)
def test_commands_named_in_the_text_exist(page: Path) -> None:
    """What a sentence sends one to type has that name, and those options."""
    context = click.Context(cli, info_name="fleet")
    for span in re.findall(r"`fleet ([a-z]\w*[^`]*)`", "\n".join(prose(page))):
        name, *rest = span.split()
        command = cli.get_command(context, name)
        assert command is not None, f"{name_of(page)}: `fleet {span}`"
        known = {opt for param in command.get_params(context) for opt in param.opts}
        unknown = {each.partition("=")[0] for each in rest if re.match(r"--\w", each)} - known
        assert not unknown, f"{name_of(page)}: `fleet {span}`: there is no {unknown}"


def parsed(text: str, place: str) -> None:
    """Have click parse each `fleet …` of a command line."""
    for line in text.replace("\\\n", " ").replace("$(", "; ").splitlines():
        lexer = shlex.shlex(line.replace("…", "x"), posix=True, punctuation_chars=";&|()<>")
        lexer.wordchars += "*!{},@%^+$"
        words: list[str] = []
        for token in [*lexer, ";"]:
            if set(token) <= set(";&|()<>"):
                while words and re.fullmatch(r"\w+=.*|sudo|nohup|exec", words[0]):
                    words.pop(0)
                if len(words) > 1 and words[0].rsplit("/", 1)[-1] == "fleet":
                    parse(words[1:], place)
                words = []
            else:
                words.append(token)


def parse(words: list[str], place: str) -> None:
    if words[0].startswith("-"):
        return
    context = click.Context(cli, info_name="fleet")
    command = copy.copy(cli.get_command(context, words[0]))
    assert command is not None, f"{place}: there is no `fleet {words[0]}`"
    command.params = [copy.copy(param) for param in command.params]
    for param in command.params:
        if isinstance(param.type, click.Path):
            param.type = click.Path(path_type=Path)  # the file need not be there
    with contextlib.suppress(click.exceptions.Exit):
        try:
            command.make_context(words[0], words[1:], parent=context)
        except click.ClickException as error:
            pytest.fail(f"{place}: {' '.join(words)}: {error.format_message()}")


def test_most_blocks_are_run() -> None:
    """Those that are not are counted here (pytest -s lists them), so that they do not grow in silence."""
    shells = [(page, block) for page in pages() for block in blocks(page) if block.language in SHELLS]
    left = [
        f"{where(page, block.line)}: {block.notes['not run']}"
        for page, block in shells
        if "not run" in block.notes
    ]
    print(f"{len(left)} of {len(shells)} blocks of commands are not run:", *left, sep="\n  ")
    assert len(left) < 0.4 * len(shells), left


# -- what is made from the code ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(docs_reference.PAGES))
def test_the_reference_is_what_the_code_says(name: str) -> None:
    """Every field, option, event and code, with words: `make reference` writes them."""
    assert (DOCS / "reference" / name).read_text() == docs_reference.page(name), "stale: make reference"


def test_every_exit_code_is_told_alike_everywhere() -> None:
    """The help, the README and the reference have the words of `Exit`, and no others."""
    table = r"^\| (\d+) \| ([^|]*?) \|"
    for page in (ROOT / "README.md", DOCS / "reference" / "exit-codes.md"):
        told = {int(code): words for code, words in re.findall(table, page.read_text(), re.MULTILINE)}
        assert told == {int(code): code.meaning for code in Exit}, name_of(page)
    help_text = CliRunner().invoke(cli, ["--help"]).output
    told = {int(code): words for code, words in re.findall(r"^ *(\d+) +(\S.*)$", help_text, re.MULTILINE)}
    assert told == {int(code): code.meaning for code in Exit}


def test_every_command_has_an_example_that_it_understands() -> None:
    """What the help shows is what one may type."""
    context = click.Context(cli, info_name="fleet")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        _, example = docs_reference.split_help(inspect.cleandoc(command.help or ""))
        assert f"fleet {name}" in example, f"fleet {name} --help shows no example"
        parsed(example, f"fleet {name} --help")
