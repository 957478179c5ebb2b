"""What the reinstall call carries for a server."""

from __future__ import annotations

import hashlib

import pytest
from support import make_run

from fleet.cloud.api import MAX_USER_DATA
from fleet.core.events import ReinstallRequested
from fleet.core.model import Call, Server, ServerId
from fleet.core.settings import CloudSettings, Reinstall, SecretRef, Select, Settings, Target, UserData
from fleet.core.state import ServerState
from fleet.errors import PlanError
from fleet.orders import Orders, render

ID = ServerId("web-1")
OFF = Server(
    id=ID, name="web-1", status="SHUTOFF", zone="az-1", addresses=("10.0.0.1",), tags={"role": "web"}
)
ON = Server(id=ID, name="web-1", status="ACTIVE")


def user_data(content: bytes, kind: str = "file") -> UserData:
    return UserData(
        kind=kind,  # type: ignore[arg-type]
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        path="/plans/web.yaml",
    )


def orders(*, passwords: dict | None = None, sources: tuple[bytes, ...] = (), **reinstall) -> Orders:
    target = Target(name="web", select=Select(name=("web-*",)), reinstall=Reinstall(**reinstall))
    return Orders(
        Settings(plan="p", digest="", folder="/", cloud=CloudSettings(provider="ecs"), targets=(target,)),
        passwords=passwords or {},
        user_data={hashlib.sha256(content).hexdigest(): content for content in sources},
        user_id="me",
    )


def server(**fields) -> ServerState:
    state = make_run(1).servers[ID]
    for name, value in fields.items():
        setattr(state, name, value)
    return state


NOTED = ReinstallRequested(
    server=ID,
    attempt=1,
    call=Call.REINSTALL_CLOUD_INIT,
    system_disk="d",
    data_disks=(),
    state="SHUTOFF",
    updated="",
    settle_s=300.0,
)


def test_a_key_pair_belongs_to_whoever_is_logged_in() -> None:
    order = orders(key_pair="kp", byol=True)(server(), OFF)
    assert (order.server, order.call) == (ID, Call.REINSTALL_CLOUD_INIT)
    assert (order.key_pair, order.user_id, order.admin_password) == ("kp", "me", None)
    assert order.byol
    assert order.user_data is None
    assert order.image is None


def test_or_to_whom_the_plan_names() -> None:
    assert orders(key_pair="kp", user_id="owner")(server(), OFF).user_id == "owner"


def test_a_password_needs_no_user() -> None:
    order = orders(admin_password=SecretRef(env="PW"), passwords={"web": "Secret-1234"})(server(), OFF)
    assert (order.key_pair, order.user_id, order.admin_password) == (None, None, "Secret-1234")
    assert "Secret-1234" not in repr(order)


def test_another_image() -> None:
    assert orders(key_pair="kp", image="img-2")(server(), OFF).image == "img-2"


def test_user_data_goes_out_as_it_is() -> None:
    content = b"#cloud-config\n{{ not a template }}\n"
    order = orders(key_pair="kp", user_data=user_data(content), sources=(content,))(server(), OFF)
    assert order.user_data == content
    assert "cloud-config" not in repr(order)


def test_a_template_is_rendered_for_the_server_as_it_is_seen_now() -> None:
    content = b"{{ server.name }} {{ server.private_ip }} {{ server.zone }} {{ server.tags.role }}"
    made = orders(key_pair="kp", user_data=user_data(content, "template"), sources=(content,))
    assert made(server(), OFF).user_data == b"web-1 10.0.0.1 az-1 web"


def test_a_template_that_does_not_render_for_a_server_says_so() -> None:
    content = b"{{ server.tags.rack }}"
    made = orders(key_pair="kp", user_data=user_data(content, "template"), sources=(content,))
    with pytest.raises(ValueError, match="the template does not render for web-1"):
        made(server(), OFF)


def test_user_data_may_fill_what_the_cloud_takes_and_no_more() -> None:
    full = b"x" * MAX_USER_DATA
    assert orders(key_pair="kp", user_data=user_data(full), sources=(full,))(server(), OFF).user_data == full
    long = full + b"x"
    made = orders(key_pair="kp", user_data=user_data(long), sources=(long,))
    with pytest.raises(ValueError, match=f"user data of {MAX_USER_DATA + 1} bytes; the cloud takes 32768"):
        made(server(), OFF)


def test_the_size_is_that_of_what_comes_out() -> None:
    content = b"{% for n in range(40000) %}x{% endfor %}"
    plan = Reinstall(user_data=user_data(content, "template"))
    with pytest.raises(ValueError, match="user data of 40000 bytes"):
        render(plan, OFF, {hashlib.sha256(content).hexdigest(): content})


def test_user_data_that_is_gone_is_found_before_anything_is_touched() -> None:
    """A resume needs the very content that the run was opened with, not whatever the file holds now."""
    with pytest.raises(PlanError) as caught:
        orders(key_pair="kp", user_data=user_data(b"old"), sources=(b"new",))
    assert "is not the one that the run was opened with" in str(caught.value)
    assert hashlib.sha256(b"old").hexdigest() in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "seen", "fields", "stop_first"),
    [
        ("with-stop-server", ON, {}, True),
        ("with-stop-server", OFF, {}, False),
        ("stop-first", ON, {}, False),
        # A call that may be a repeat never takes the cloud's own guard away.
        ("with-stop-server", ON, {"noted": NOTED}, False),
        ("with-stop-server", ON, {"noted": NOTED, "accepted": 0, "sent": 0}, False),
        ("with-stop-server", ON, {"noted": NOTED, "accepted": 1, "wiped": True}, False),
    ],
)
def test_the_cloud_stops_a_server_by_itself_on_the_first_call_only(
    mode: str, seen: Server, fields: dict, *, stop_first: bool
) -> None:
    assert orders(key_pair="kp", mode=mode)(server(**fields), seen).stop_first is stop_first
