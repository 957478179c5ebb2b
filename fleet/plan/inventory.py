"""Ansible's inventories: which hosts a file lists, and under which address each is reached.

Read are what ``ansible-inventory --list`` prints, YAML inventories and INI inventories. Variables are not:
only ``ansible_host``, since the others may be secrets. What is beside the file (``host_vars/``) is not read
either; whoever needs it writes the file with ``ansible-inventory --list``.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import yaml

from fleet.errors import PlanError
from fleet.plan.compose import MAX_NODES, Composer, Node

MAX_INVENTORY = 32 * 1024 * 1024  # bytes; `--list` repeats every variable for every host
MAX_HOSTS = 20_000

_RANGE = re.compile(r"\[([0-9]+|[a-zA-Z]):([0-9]+|[a-zA-Z])(?::([0-9]+))?\]")
_PORT = re.compile(r"(?<=[^:]):[0-9]{1,5}$")
_SECTION = re.compile(r"\[([^\]:]+)(?::(\w+))?\]\s*(?:[#;].*)?")
_HOST = re.compile(r"[^\s\[\]{},\x00-\x1f\x7f-\x9f]+")
_ADDRESS_VARIABLES = ("ansible_host", "ansible_ssh_host")
_REWRITE = "write it anew: ansible-inventory -i … --list > hosts.json"
_DEEPEST = 40


class InventoryError(Exception):
    """The file is no inventory that we read.

    Attributes:
        message: What is wrong; never a variable's value.
        hint: The remedy.
        line: Where in the inventory, if known.
    """

    def __init__(self, message: str, hint: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.line = message, hint, line


@dataclass(slots=True)
class _Group:
    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Inventory:
    groups: dict[str, _Group] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def group(self, name: str) -> _Group:
        return self.groups.setdefault(name, _Group())

    def add(self, group: str, pattern: str, variables: object = None, line: int | None = None) -> None:
        """Note the hosts that *pattern* stands for; the first address said of a host counts."""
        hosts = self.group(group).hosts
        for host in _expand(pattern, line):
            self.count += 1
            if self.count > MAX_HOSTS:
                raise InventoryError(
                    f"more than {MAX_HOSTS:,} hosts", "is a range mistyped? name a file with fewer", line
                )
            hosts.append(host)
            self.note(host, variables)

    def note(self, host: str, variables: object) -> None:
        if isinstance(variables, dict):
            for name in _ADDRESS_VARIABLES:
                if isinstance(given := variables.get(name), str) and given:
                    self.addresses.setdefault(host, given)

    def members(self, wanted: str) -> Iterator[str]:
        """Yield the hosts of a group and of the groups below it; groups may meet, or form a circle."""
        seen, waiting = {wanted}, [wanted]
        while waiting:
            group = self.groups.get(waiting.pop())
            if group is None:  # `--list` names empty groups and does not show them
                continue
            yield from group.hosts
            fresh = [name for name in group.children if name not in seen]
            seen.update(fresh)
            waiting += fresh


def hosts_of(content: bytes, name: str, group: str | None) -> dict[str, str]:
    """Return the hosts of an inventory, or of one group of it, each with the address it is reached by.

    As with Ansible that is the host's own name unless ``ansible_host`` says otherwise.

    Args:
        content: The file.
        name: Its name; ``.json``, ``.yaml``, ``.yml`` and ``.ini`` say what it is, others are looked into.
        group: None or ``all`` for every host.

    Raises:
        InventoryError: It is none, or there is nobody in it: an empty list never means every server.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InventoryError("it is not UTF-8", "save it as UTF-8", line) from None
    if text.startswith("#!"):
        raise InventoryError("it is a program that prints an inventory", _REWRITE)
    found = _read_yaml(text) if _is_yaml(text, name) else _read_ini(text)
    if group in {None, "all"}:
        names: Iterable[str] = (host for each in found.groups.values() for host in each.hosts)
    elif group in found.groups:
        names = found.members(group or "")
    else:
        near = difflib.get_close_matches(group or "", found.groups, n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"its groups: {', '.join(sorted(filter(str.isprintable, found.groups))[:8])}"
        )
        raise InventoryError(f"there is no group {group}", hint)
    hosts = {host: _normal(found.addresses.get(host, host)) for host in names}
    if not hosts:
        where = f"the group {group}" if group else "it"
        raise InventoryError(
            f"{where} lists no host", "that never means every server: name a file or group that lists some"
        )
    return hosts


def _normal(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:  # a name, or a template: the server is looked for by the host's name alone
        return address


def _expand(pattern: str, line: int | None) -> Iterator[str]:
    """Yield the names that ``web-[01:50]`` stands for; several ranges multiply, the caller counts."""
    found = _RANGE.search(pattern)
    if found is None:
        name = pattern if pattern.count(":") > 1 else _PORT.sub("", pattern)
        if not _HOST.fullmatch(name):
            raise InventoryError(
                f"{pattern[:60]!r} is no host and no range", "write web-1, or web-[01:50]", line
            )
        yield name
        return
    before, after = pattern[: found.start()], pattern[found.end() :]
    first, last, step = found[1], found[2], int((found[3] or "1")[:9])
    numbers = first.isdigit() and last.isdigit()
    low, high = (int(first[:12]), int(last[:12])) if numbers else (ord(first[0]), ord(last[0]))
    mixed = first.isdigit() != last.isdigit() or (not numbers and first.islower() != last.islower())
    if mixed or low > high or step < 1 or max(len(first), len(last)) > 12:
        raise InventoryError(f"{found[0]} is no range", "write it upwards: [01:50], [a:f]", line)
    width = len(first) if numbers and first.startswith("0") else 0
    for value in range(low, high + 1, step):
        yield from _expand(f"{before}{str(value).zfill(width) if numbers else chr(value)}{after}", line)


# YAML and JSON ----------------------------------------------------------------------------------------


def _is_yaml(text: str, name: str) -> bool:
    if name.lower().endswith((".json", ".yaml", ".yml")):
        return True
    if name.lower().endswith((".ini", ".cfg")):
        return False
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith(("#", ";"))), "")
    return first.startswith(("{", "---", "%")) or re.fullmatch(r"[^\s\[\]=]+:(\s.*)?", first) is not None


def _read_yaml(text: str) -> _Inventory:
    found = _Inventory()
    data = _data(text)
    if not isinstance(data, dict):
        raise InventoryError("an inventory is a mapping of groups", _REWRITE)
    meta = data.pop("_meta", None)
    for name, group in data.items():
        _add_group(found, name, group, 0)
    variables = meta.get("hostvars") if isinstance(meta, dict) else None
    if isinstance(variables, dict):
        for host, each in variables.items():
            found.note(host, each)
    return found


def _add_group(found: _Inventory, name: str, given: object, depth: int) -> None:
    """Note a group: a mapping in files, with lists in it in what ``--list`` prints, a list in old scripts."""
    group = found.group(name)
    if depth > _DEEPEST:
        raise InventoryError(f"groups are nested more than {_DEEPEST} deep", _REWRITE)
    if given is None:
        return
    if isinstance(given, list):
        given = {"hosts": given}
    if not isinstance(given, dict):
        raise InventoryError(
            f"the group {name[:60]} is no mapping", "below a group write `hosts:` or `children:`"
        )
    if strange := sorted(set(given) - {"hosts", "children", "vars"}):
        raise InventoryError(
            f"the group {name[:60]} has the field {strange[0][:60]!r}",
            "Ansible reads hosts, children and vars there",
        )
    hosts, children = _named(given.get("hosts"), name), _named(given.get("children"), name)
    for host, variables in hosts.items():
        found.add(name, host, variables)
    for child, below in children.items():
        group.children.append(child)
        if below is not None or isinstance(given.get("children"), dict):
            _add_group(found, child, below, depth + 1)


def _named(given: object, group: str) -> dict[str, object]:
    """Return names with what is said of them."""
    if given is None:
        return {}
    if isinstance(given, str):
        return {given: None}
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        return dict.fromkeys(given)
    if isinstance(given, dict):
        return given
    raise InventoryError(f"the group {group[:60]} lists something that is no name", "write names, one a line")


def _data(text: str) -> object:
    """Return plain data. JSON by itself: it is long, and YAML takes ten times as long for it."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError):
            pass  # YAML in braces, or wrong in any case: YAML's reader says where
    try:
        root = _Composer(text, "").compose()
        return None if root is None else _Plain().walk(root, 0)
    except PlanError as error:
        [problem] = error.problems
        said = problem.message.replace("the plan has", "it has")
        raise InventoryError(said, _REWRITE, problem.line) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InventoryError("it is neither YAML nor JSON", _REWRITE, line) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InventoryError("it is neither YAML nor JSON", _REWRITE) from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise InventoryError(
            "a name stands twice in one mapping; one of them would be ignored", "keep one of them"
        )
    return made


class _Composer(Composer):
    """Inventories have tags (``!vault``) at variables, which are not read here."""

    def _refuse_tag(self, event: yaml.Event) -> None:
        pass


class _Plain:
    """Nodes to plain data: everything is text, except nothing; counted, since aliases multiply."""

    def __init__(self) -> None:
        self._count = 0

    def walk(self, node: Node, depth: int) -> object:
        self._count += 1
        if self._count > MAX_NODES or depth > _DEEPEST * 3:
            raise InventoryError("aliases blow it up: too many values", _REWRITE, node.mark.line)
        while isinstance(node.value, Node):
            node = node.value
        if not isinstance(node.value, list):
            text = str(node.value)
            return None if node.plain and text in {"", "~", "null"} else text
        if node.kind == "list":
            return [self.walk(item, depth + 1) for item in node.value]
        made: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key, value in node.value:
            name = self.walk(key, depth + 1)
            below = self.walk(value, depth + 1)
            if name == "<<" and isinstance(below, dict):
                merged |= below
            elif not isinstance(name, str) or name in made:
                raise InventoryError("a name stands twice, or is none", "keep one of them", key.mark.line)
            else:
                made[name] = below
        return merged | made


# INI --------------------------------------------------------------------------------------------------


def _read_ini(text: str) -> _Inventory:
    found = _Inventory()
    group, kind = "ungrouped", ""
    children: list[tuple[str, int]] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("[") and (section := _SECTION.fullmatch(line)):
            group, kind = section[1].strip(), section[2] or ""
            if kind not in {"", "vars", "children"}:
                raise InventoryError(
                    f"[{group}:{kind}] is no section",
                    "write [group], [group:children] or [group:vars]",
                    number,
                )
            found.group(group)
        elif kind == "children":
            child = line.split("#")[0].strip()
            found.group(group).children.append(child)
            children.append((child, number))
        elif not kind:
            _add_line(found, group, line, number)
    for child, number in children:
        if child not in found.groups:
            raise InventoryError(f"there is no group {child[:60]}", f"write a section [{child[:60]}]", number)
    return found


def _add_line(found: _Inventory, group: str, line: str, number: int) -> None:
    try:
        host, *variables = shlex.split(line, comments=True)
    except ValueError:  # what was found there is not shown: it may be a password
        raise InventoryError("a quote is not closed", "close it, or see what the line is", number) from None
    if any("=" not in each for each in variables):
        raise InventoryError(
            "there is more than one word that is no variable",
            "write one host a line, then name=value",
            number,
        )
    found.add(group, host, dict(each.split("=", 1) for each in variables), number)
