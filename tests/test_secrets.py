"""Secrets are found where the plan says, and in no text."""

from __future__ import annotations

import base64
import json
import sys
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.settings import SecretRef
from fleet.errors import FleetError
from fleet.secrets import MARK, Registry, redact, register, resolve


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        json.dumps,
        lambda text: quote(text, safe=""),
        quote_plus,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
        lambda text: f"https://user:{quote(text)}@proxy/",
    ],
)
@pytest.mark.parametrize("secret", ["Tr0ub4dor&3", "päss wörd/+=", 'quo"te\\back', "abcd"])
def test_every_form_is_redacted(secret, show):
    registry = Registry()
    registry.register(secret)

    text = registry.redact(f"before {show(secret)} after")

    assert MARK in text
    assert secret not in text
    assert text.startswith("before ")
    assert text.endswith(" after")


@pytest.mark.parametrize("user", ["", "a", "ab", "abc", "somebody"])
def test_a_secret_within_a_basic_header_is_redacted(user):
    registry = Registry()
    registry.register("correct horse battery")

    header = base64.b64encode(f"{user}:correct horse battery".encode()).decode()

    text = registry.redact(header)
    assert MARK in text
    assert b"horse" not in base64.b64decode(text.split(MARK)[0] + "==")


def test_short_values_do_not_wreck_texts():
    registry = Registry()
    for value in ("", "a", "ab", "abc"):
        registry.register(value)

    assert registry.redact("a cab at the abc") == "a cab at the abc"


def test_the_longer_of_two_secrets_leaves_no_rest():
    registry = Registry()
    registry.register("hunter2")
    registry.register("hunter2-and-more")

    assert registry.redact("hunter2-and-more") == MARK


@given(st.text(min_size=4), st.text(), st.text())
def test_no_registered_value_survives(secret, before, after):
    """Whatever stands around it. (A mark may complete a value that is made of brackets.)"""
    registry = Registry()
    registry.register(secret)

    text = registry.redact(before + secret + after)

    assert secret not in text.replace(MARK, "\0\0\0\0") or secret in "\0\0\0\0"


def test_from_the_environment():
    assert resolve(SecretRef(env="WEB"), environ={"WEB": "s3cret-value"}) == "s3cret-value"
    assert redact("it is s3cret-value") == f"it is {MARK}"


def test_from_a_file(tmp_path):
    path = tmp_path / "password"
    path.write_bytes(b"file-secret\r\nsecond line\n")
    path.chmod(0o600)

    assert resolve(SecretRef(file=str(path))) == "file-secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620])
def test_a_file_open_to_others_is_refused(tmp_path, mode):
    path = tmp_path / "password"
    path.write_text("file-secret-2")
    path.chmod(mode)

    with pytest.raises(FleetError, match="open to others") as caught:
        resolve(SecretRef(file=str(path)))
    assert "chmod 600" in (caught.value.hint or "")
    assert "file-secret-2" not in str(caught.value)


def test_from_a_command_without_a_shell(tmp_path):
    argv = (sys.executable, "-c", "import sys; print(sys.argv[1]); print('more')", "$HOME;`id`")

    assert resolve(SecretRef(command=argv)) == "$HOME;`id`"


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        (SecretRef(env="NOT_THERE"), "environment variable NOT_THERE is not set"),
        (SecretRef(env="EMPTY"), "empty"),
        (SecretRef(file="/nonexistent/secret"), "file /nonexistent/secret cannot be read"),
        (SecretRef(file="/dev/null"), "no regular file"),
        (SecretRef(command=("/nonexistent/command",)), "cannot be started"),
        (SecretRef(command=(sys.executable, "-c", "print('canary-7'); raise SystemExit(3)")), "ended with 3"),
        (
            SecretRef(
                command=(sys.executable, "-c", "print('canary-7',flush=True); import time; time.sleep(60)")
            ),
            "did not end within 0.3 s",
        ),
        (SecretRef(command=(sys.executable, "-c", "print('canary-7' * 20000)")), "that is no secret"),
        (SecretRef(command=(sys.executable, "-c", r"import os; os.write(1, b'canary-7\xff')")), "not UTF-8"),
        (SecretRef(), "without a place"),
    ],
)
def test_failures_name_the_place_and_never_the_value(ref, says):
    with pytest.raises(FleetError) as caught:
        resolve(ref, environ={"EMPTY": ""}, timeout_s=0.3 if "sleep" in str(ref.command) else 30)

    assert says in str(caught.value)
    assert caught.value.hint
    chain = [caught.value, caught.value.__cause__]
    assert all("canary-7" not in repr(error) for error in chain)


def test_registering_is_for_the_whole_process():
    register("whole-process-secret")

    assert redact("x whole-process-secret y") == f"x {MARK} y"
