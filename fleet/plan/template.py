"""Templates of user data: checked when the plan is read, rendered for each server.

Jinja in its sandbox, with undefined names as errors, no files to include, and a bound on how much a
template may loop and print. The bound is against accidents: whoever writes a plan can run commands anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fleet.core.facts import facts
from fleet.core.model import Server, ServerId
from fleet.plan.fields import MAX_RENDERED, suggest

MAX_LOOPS = 100_000  # turns of all `range` loops of one rendering together

FIELDS = ("id", "name", "private_ip", "public_ip", "zone", "flavor", "image", "tags")

EXAMPLE_NONCE = "0" * 32
"""As long as a real one: what the pre-flight renders with, before there is a run."""

EXAMPLE = Server(
    id=ServerId("00000000-0000-0000-0000-000000000000"),
    name="example-1",
    zone="example-zone-01",
    flavor="s3.medium.2",
    image="00000000-0000-0000-0000-000000000001",
    addresses=("192.0.2.17",),
    public_addresses=("198.51.100.17",),
)


class _AnyTag(dict[str, str]):
    """Tags of the example server: there is one for every key."""

    def __missing__(self, key: str) -> str:
        return "example"


def render_user_data(
    kind: Literal["file", "text", "template"], source: bytes, server: Server, nonce: str = EXAMPLE_NONCE
) -> bytes:
    """Return the user data for *server*; what is no template is returned as it is.

    A template sees ``server`` with id, name, private_ip, public_ip, zone, flavor, image and tags, and
    ``fleet`` with *nonce*. The caller checks the size of what comes out.

    Raises:
        ValueError: It does not render for this server, in words for people.
    """
    if kind != "template":
        return source
    return _render(source, {**facts(server), "tags": dict(server.tags)}, server.label, nonce)


def try_template(source: bytes) -> str | None:
    """Render for an example server and return what goes wrong, or None."""
    try:
        _render(source, {**facts(EXAMPLE), "tags": _AnyTag()}, "an example server", EXAMPLE_NONCE)
    except ValueError as error:
        return str(error)
    return None


def check_template(source: bytes) -> Iterator[tuple[int, str, str]]:
    """Yield line, message and hint for everything that can be seen without rendering."""
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        yield source.count(b"\n", 0, error.start) + 1, "the template is not UTF-8", "save it as UTF-8"
        return
    environment = _environment()
    try:
        tree = environment.parse(text)
        environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        yield error.lineno, f"the template cannot be read: {error.message}", "mend it there"
        return
    except (RecursionError, SyntaxError, ValueError, OverflowError) as error:
        yield 1, f"the template cannot be read ({type(error).__name__})", "make it simpler"
        return
    if next(iter(meta.find_referenced_templates(tree)), "") != "":
        yield 1, "the template includes another one", "write it out: one file a template"
    for name in sorted(meta.find_undeclared_variables(tree) - {"server", "fleet", *environment.globals}):
        line = next((node.lineno for node in tree.find_all(nodes.Name) if node.name == name), 1)
        yield (
            line,
            f"`{name}` is not known in the template",
            f"did you mean server.{name}?"
            if name in FIELDS
            else ("there is `server`, with " + ", ".join(FIELDS) + "; and fleet.nonce"),
        )
    for use in tree.find_all(nodes.Getattr):
        if isinstance(use.node, nodes.Name) and use.node.name == "server" and use.attr not in FIELDS:
            yield use.lineno, f"`server.{use.attr}` is not known in the template", suggest(use.attr, FIELDS)
        if isinstance(use.node, nodes.Name) and use.node.name == "fleet" and use.attr != "nonce":
            yield use.lineno, f"`fleet.{use.attr}` is not known in the template", "there is fleet.nonce"


def _render(source: bytes, server: Mapping[str, object], label: str, nonce: str) -> bytes:
    left = MAX_LOOPS

    def bounded_range(*bounds: int) -> range:
        nonlocal left
        turns = range(*bounds)
        left -= len(turns)
        if left < 0:
            raise ValueError(f"loops more than {MAX_LOOPS:,} times")
        return turns

    out: list[bytes] = []
    size = 0
    try:
        for piece in _compiled(source).generate(server=server, fleet={"nonce": nonce}, range=bounded_range):
            out.append(piece.encode())
            size += len(out[-1])
            if size > MAX_RENDERED:
                raise ValueError(f"it renders to more than {MAX_RENDERED:,} bytes")  # noqa: TRY301 - said below, with the label
    except jinja2.UndefinedError as error:
        raise ValueError(f"the template does not render for {label}: {error.message}") from None
    except MemoryError:
        raise ValueError(f"the template does not render for {label}: out of memory") from None
    except Exception as error:  # noqa: BLE001 - whatever an expression in the template raises
        raise ValueError(f"the template does not render for {label}: {error}") from None
    return b"".join(out)


@lru_cache(maxsize=32)
def _compiled(source: bytes) -> jinja2.Template:
    return _environment().from_string(source.decode())


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with a bound on what ``*`` and ``**`` can blow up."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: object, right: object
    ) -> object:
        for one, other in ((left, right), (right, left)):
            if (
                isinstance(one, str | bytes | list | tuple)
                and isinstance(other, int)
                and len(one) * other > MAX_RENDERED
            ):
                raise ValueError("`*` makes more than fits")
        if (
            operator == "**"
            and isinstance(left, int | float)
            and isinstance(right, int | float)
            and right > 64
        ):
            raise ValueError("`**` makes more than fits")
        return super().call_binop(context, operator, left, right)


def _environment() -> _Environment:
    return _Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
