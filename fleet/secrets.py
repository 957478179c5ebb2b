"""Secrets: getting them, and keeping them out of every text.

A secret is fetched by reference (`resolve`) and its value is *registered*; `redact` then replaces every
registered value, and the forms in which HTTP, JSON and Python would show it, in any text. Registering
by value catches what a list of field names cannot: an exception's text, a URL, a message of the cloud's.

Nothing here is ever written anywhere: the registry lives as long as the process.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import stat
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

from fleet.core.settings import SecretRef
from fleet.errors import Exit, FleetError

MARK = "[secret]"
"""What stands where a secret stood."""

MIN_LENGTH = 4
"""Shorter values are not searched for: replacing every ``a`` wrecks a text and hides nothing."""

MAX_SIZE = 64 * 1024
"""Bytes that are read of a file or of a command's output: no secret is longer, a wrong path may be."""

COMMAND_TIMEOUT_S = 30.0
"""A command that asks a vault over the network; one that asks a person for a PIN has no business here."""


class SecretUnavailable(FleetError):
    """A secret cannot be had from where the plan says it is."""

    exit_code = Exit.USAGE


class Registry:
    """Known secret values, in every form in which a text may show them."""

    def __init__(self) -> None:
        self._forms: dict[str, None] = {}
        self._ordered: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def register(self, value: str) -> None:
        """Have *value* replaced from now on. Values shorter than `MIN_LENGTH` are left alone."""
        if len(value) < MIN_LENGTH:
            return
        with self._lock:
            if value in self._forms:
                return
            self._forms.update(dict.fromkeys(_forms(value)))
            # The longest first: a secret that contains another one would otherwise leave its rest behind.
            self._ordered = tuple(sorted(self._forms, key=len, reverse=True))

    def copy(self) -> Registry:
        """Return a registry that knows the same values."""
        made = Registry()
        made._forms, made._ordered = dict(self._forms), self._ordered
        return made

    def redact(self, text: str) -> str:
        """Return *text* with every registered value, in every form, replaced by `MARK`."""
        for form in self._ordered:
            if form in text:
                text = text.replace(form, MARK)
        return text


def _forms(value: str) -> set[str]:
    """Return *value* as it is, URL-encoded, base64-encoded, and escaped as JSON and Python show it."""
    raw = value.encode("utf-8", "surrogateescape")
    forms = {
        value,
        quote(raw, safe=""),
        quote(raw, safe="/"),
        quote_plus(raw),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
    }
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(raw).decode("ascii"))
        forms.add(encode(raw).decode("ascii").rstrip("="))
        # In the middle of something longer ("user:password") base64 depends on where the value begins,
        # modulo 3. The characters that also carry bits of the neighbours are left out.
        for lead in range(3):
            text = encode(b"\0" * lead + raw).decode("ascii").rstrip("=")
            whole = (lead + len(raw)) * 8 // 6
            forms.add(text[-(-lead * 8 // 6) : whole])
    return {form for form in forms if len(form) >= MIN_LENGTH}


_known = Registry()


def register(value: str) -> None:
    """Have *value* redacted everywhere in this process from now on."""
    _known.register(value)


def redact(text: str) -> str:
    """Return *text* without the secrets that this process knows."""
    return _known.redact(text)


@contextlib.contextmanager
def set_aside() -> Iterator[None]:
    """Forget, at the end, what is registered meanwhile: a rehearsal makes up thousands of tokens."""
    global _known  # noqa: PLW0603 - the registry is the process's, by design
    before = _known
    _known = before.copy()
    try:
        yield
    finally:
        _known = before


def resolve(
    ref: SecretRef,
    *,
    environ: Mapping[str, str] | None = None,
    folder: str | None = None,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> str:
    """Fetch a secret and register it. Blocks: a command may take up to *timeout_s*.

    Args:
        ref: Where it is.
        environ: Environment to look into and to give to a command; None: this process's own.
        folder: Folder that a relative command runs in; None: the current one.
        timeout_s: Seconds after which a command is killed.

    Raises:
        SecretUnavailable: It is not there, empty, or not kept safely. Names the place, never the value.
    """
    environ = os.environ if environ is None else environ
    if ref.env is not None:
        value = _from_environment(ref, environ)
    elif ref.file is not None:
        value = _from_file(ref, ref.file)
    elif ref.command:
        value = _from_command(ref, ref.command, environ, folder, timeout_s)
    else:
        raise SecretUnavailable(
            "a secret without a place to get it from", hint="give one of env, file, command"
        )
    if not value:
        raise SecretUnavailable(f"{ref}: the secret is empty", hint="check what it holds")
    register(value)
    return value


def _from_environment(ref: SecretRef, environ: Mapping[str, str]) -> str:
    value = environ.get(ref.env or "")
    if value is None:
        raise SecretUnavailable(
            f"{ref} is not set", hint=f"export {ref.env}, or name another source in the plan"
        )
    return value


def _from_file(ref: SecretRef, path: str) -> str:
    try:
        # Without O_NONBLOCK a named pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SecretUnavailable(
            f"{ref} cannot be read: {error.strerror}", hint="check the path, and that you may read it"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        # The open file is asked, not the path: between a look and an open another one may be put there.
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SecretUnavailable(f"{ref} is no regular file", hint="name a file; for a pipe use command")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretUnavailable(
                f"{ref} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
                hint=f"chmod 600 {path}; and consider the secret known to them",
            )
        return _first_line(ref, file.read(MAX_SIZE + 1))


def _from_command(
    ref: SecretRef, argv: tuple[str, ...], environ: Mapping[str, str], folder: str | None, timeout_s: float
) -> str:
    by_hand = "run the command by hand to see what it says"
    try:
        # The error output is dropped: vault clients print tokens and requests there when asked to talk.
        done = subprocess.run(  # noqa: S603  # argv is the plan author's own, and no shell reads it
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            cwd=None if folder is None else Path(folder),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # Not chained: the exception carries the output so far.
        raise SecretUnavailable(f"{ref} did not end within {timeout_s:g} s", hint=by_hand) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "an argument is not usable"
        raise SecretUnavailable(f"{ref} cannot be started: {why}", hint="check its path") from None
    if done.returncode != 0:
        raise SecretUnavailable(f"{ref} ended with {done.returncode}", hint=by_hand)
    return _first_line(ref, done.stdout)


def _first_line(ref: SecretRef, data: bytes) -> str:
    if len(data) > MAX_SIZE:
        raise SecretUnavailable(
            f"{ref}: more than {MAX_SIZE // 1024} KiB, that is no secret",
            hint="check what the reference names",
        )
    line = data.split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        # Not chained: the exception carries the bytes.
        raise SecretUnavailable(f"{ref}: not UTF-8 text", hint="check what the reference names") from None
