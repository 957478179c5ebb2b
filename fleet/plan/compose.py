"""YAML's events to nodes: one document, not too deep, aliases kept as links, nothing interpreted yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import yaml

from fleet.errors import PlanError, Problem

MAX_NODES = 100_000  # after aliases are followed: an alias bomb is small on disk only
MAX_DEPTH = 50  # a plan is about 8 deep; far below Python's recursion limit


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 4.6 times faster where libyaml is there


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the file, counted from 1 as editors do."""

    line: int
    column: int


@dataclass(slots=True)
class Node:
    """A piece of the file; *value* by kind: text, list of nodes, list of pairs of nodes, the other node."""

    kind: str
    value: object
    mark: Mark
    plain: bool = False


class Composer:
    """Make nodes of events, one document, not too deep, aliases kept as links."""

    def __init__(self, text: str, file: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._open: set[str] = set()
        self._count = 0

    def compose(self) -> Node | None:
        """Return the document's node, or None when there is nothing in it."""
        root: Node | None = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fail(event, "a second document starts here", "one plan a file: drop the `---`")
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, 0)
        if root is not None and root.kind == "scalar" and root.plain and root.value == "":
            return None
        return root

    def _fail(self, event: yaml.Event, message: str, hint: str) -> NoReturn:
        mark = _mark(event)
        raise PlanError(Problem(message, hint=hint, file=self._file, line=mark.line, column=mark.column))

    def _node(self, event: yaml.Event, depth: int) -> Node:
        self._count += 1
        if self._count > MAX_NODES:
            self._fail(event, f"the plan has more than {MAX_NODES:,} values", "is this the right file?")
        if depth > MAX_DEPTH:
            self._fail(event, f"nested more than {MAX_DEPTH} deep", "no field of a plan is that deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        anchor: str | None = getattr(event, "anchor", None)
        self._refuse_tag(event)
        node = Node("", None, _mark(event))
        if anchor is not None:
            self._anchors[anchor] = node
            self._open.add(anchor)
        if isinstance(event, yaml.ScalarEvent):
            node.kind, node.value = "scalar", event.value
            node.plain = bool(event.implicit[0]) and not event.style
        elif isinstance(event, yaml.SequenceStartEvent):
            node.kind, node.value = "list", self._items(depth)
        else:
            node.kind, node.value = "mapping", self._pairs(depth)
        if anchor is not None:
            self._open.discard(anchor)
        return node

    def _items(self, depth: int) -> list[Node]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _pairs(self, depth: int) -> list[tuple[Node, Node]]:
        pairs = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            pairs.append((key, self._node(next(self._events), depth + 1)))
        return pairs

    def _alias(self, event: yaml.AliasEvent) -> Node:
        # The name is not shown: a password that begins with `*` looks like an alias.
        if event.anchor not in self._anchors:
            self._fail(
                event, "this alias (`*…`) has no anchor before it", "put text that begins with * in quotes"
            )
        if event.anchor in self._open:
            self._fail(event, "this alias (`*…`) contains itself", "write the value out")
        return Node("alias", self._anchors[event.anchor], _mark(event))

    def _refuse_tag(self, event: yaml.Event) -> None:
        tag = getattr(event, "tag", None)
        if tag not in {None, "!", "tag:yaml.org,2002:str"}:
            self._fail(
                event, "YAML tags (`!…`) are not read", "write the plain value; put text with ! in quotes"
            )


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1) if start else Mark(1, 1)
