"""OpenStack's own client judges the built-in cloud's OpenStack face: Keystone, Nova and Glance.

    python tests/judges/judge_openstacksdk.py URL

Needs ``openstacksdk`` and nothing of ours. The simulator is one of `run.py`'s: the default fleet, a high
speed, a second user who may not rebuild. Exits 1 at the first mismatch.
"""

from __future__ import annotations

import base64
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import openstack
from judgement import (
    IMAGE_ID,
    PLAIN_IMAGE_ID,
    PROJECT_ID,
    USER_ID,
    Mismatch,
    expect,
    order_fault,
    plain,
    run,
    until,
)
from keystoneauth1.exceptions import Unauthorized
from openstack import exceptions

SERVERS = 71
PASSWORD = {"username": "fleet", "password": "simulator", "user_domain_name": "simulator"}
PROJECT = {"project_name": "sim-1", "project_domain_name": "simulator"}
APPLICATION = ("a1b2c3d4e5f60718293a4b5c6d7e8f90", "simulator-application-secret")
USER_DATA = base64.b64encode(b"#cloud-config\n").decode()


class Complaints(logging.Handler):
    """Keeps what the client warns of: that is where it had to guess, and went on all the same."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def connect(url: str, auth_type: str = "password", **auth: str) -> Any:
    """Return a connection. The endpoints are found through the catalogue and the services' own versions."""
    return openstack.connection.Connection(
        auth_type=auth_type, auth={"auth_url": f"{url}/v3", **auth}, region_name="sim-1", interface="public"
    )


def refused(
    what: str, call: Callable[[], Any], wanted: type[Exception], status: int, words: str = ""
) -> None:
    """Make a call that must be refused, in a way that the client understands: with its reason."""
    try:
        call()
    except exceptions.HttpException as error:
        expect(what, (type(error), error.status_code), (wanted, status))
        if words not in (error.details or ""):
            raise Mismatch(f"{what}: {error.details!r} does not say {words!r}") from None
        return
    raise Mismatch(f"{what}: not refused")


def log_in(url: str) -> Any:
    """Log in every way that there is; return the connection that a password made."""
    cloud = connect(url, **PASSWORD, **PROJECT)
    token = cloud.authorize()
    expect("whom a token is for", (cloud.current_user_id, cloud.current_project_id), (USER_ID, PROJECT_ID))
    for what, other in {
        "the domain's id": connect(
            url, user_id=USER_ID, password=PASSWORD["password"], project_id=PROJECT_ID
        ),
        "an application credential": connect(
            url,
            "v3applicationcredential",
            application_credential_id=APPLICATION[0],
            application_credential_secret=APPLICATION[1],
        ),
        "a token": connect(url, "token", token=token, **PROJECT),
    }.items():
        expect(f"logging in with {what}", other.current_project_id, PROJECT_ID)
        expect(f"reading with {what}", next(iter(other.compute.servers())).name, "web-001")
    for what, other in {
        "a wrong password": connect(url, **{**PASSWORD, "password": "wrong"}, **PROJECT),
        "a wrong application credential": connect(
            url,
            "v3applicationcredential",
            application_credential_id=APPLICATION[0],
            application_credential_secret="wrong",
        ),
        "a wrong project": connect(url, **PASSWORD, project_id="0" * 32),
    }.items():
        try:
            other.authorize()
        except (exceptions.SDKException, Unauthorized) as error:
            if "401" not in str(error):
                raise Mismatch(f"{what}: {error}") from None
            print(f"ok: {what}")
        else:
            raise Mismatch(f"{what}: not refused")
    return cloud


def discover(cloud: Any, url: str) -> None:
    """See that nothing had to be guessed: the services' own descriptions were found and understood."""
    compute = cloud.compute.get_endpoint_data()
    expect("Nova's versions", (compute.min_microversion, compute.max_microversion), ((2, 1), (2, 96)))
    expect("Nova's address", compute.url.rstrip("/"), f"{url}/v2.1/{PROJECT_ID}")
    image = cloud.image.get_endpoint_data()
    expect("Glance's address", (image.url.rstrip("/"), image.api_version[0]), (f"{url}/v2", 2))
    expect("Keystone's address", cloud.identity.get_endpoint_data().api_version[0], 3)


def read(cloud: Any) -> list[Any]:
    """List in pages and at once, get, and filter; return the web servers that run."""
    expect("servers on pages of 25", len({each.id for each in cloud.compute.servers(limit=25)}), SERVERS)
    servers = list(cloud.compute.servers())
    expect("servers at once", len(servers), SERVERS)
    expect("servers in brief", len(list(cloud.compute.servers(details=False))), SERVERS)
    expect("servers by name", {each.name[:3] for each in cloud.compute.servers(name="^db-")}, {"db-"})
    refused(
        "an unknown marker",
        lambda: list(cloud.compute.servers(marker="none")),
        exceptions.BadRequestException,
        400,
        "marker [none] not found",
    )
    web = [each for each in servers if each.name.startswith("web-") and each.status == "ACTIVE"]
    running = list(cloud.compute.servers(status="ACTIVE"))
    expect("servers by status", {each.status for each in running}, {"ACTIVE"})
    first = cloud.compute.get_server(web[0].id)
    expect("found by name", cloud.compute.find_server(first.name).id, first.id)
    expect("the same in a list", {**first.to_dict(), "location": 0}, {**web[0].to_dict(), "location": 0})
    expect(
        "state",
        (first.status, first.vm_state, first.task_state, first.power_state),
        ("ACTIVE", "active", None, 1),
    )
    expect("lock", (first.is_locked, first.locked_reason), (False, None))
    expect("zone", first.availability_zone[:5], "sim-1")
    expect(
        "flavor", (first.flavor.original_name, first.flavor.vcpus, first.flavor.ram), ("s3.large.2", 2, 4096)
    )
    expect("metadata", first.metadata, {"role": "web", "env": "prod"})
    expect("image", first.image.id, IMAGE_ID)
    expect("owner", (first.user_id, first.project_id, first.key_name), (USER_ID, PROJECT_ID, "demo-key"))
    (address,) = first.addresses["private"]
    expect(
        "address",
        (address["version"], address["OS-EXT-IPS:type"], address["addr"][:6]),
        (4, "fixed", "10.20."),
    )
    return web


def around(cloud: Any) -> None:
    """Read images and key pairs."""
    images = {each.id: each for each in cloud.image.images()}
    expect("images", set(images), {IMAGE_ID, PLAIN_IMAGE_ID})
    expect("images on pages of one", len(list(cloud.image.images(limit=1))), 2)
    image = cloud.image.get_image(IMAGE_ID)
    shown = (image.name, image.status, image.visibility, image.disk_format, image.container_format)
    expect("an image", shown, ("Standard_Debian_12", "active", "public", "qcow2", "bare"))
    expect("an image by name", cloud.image.find_image("Standard_Debian_12").id, IMAGE_ID)
    refused(
        "an unknown image", lambda: cloud.image.get_image("none"), exceptions.NotFoundException, 404, "none"
    )
    expect("key pairs", [(each.name, each.type) for each in cloud.compute.keypairs()], [("demo-key", "ssh")])
    pair = cloud.compute.get_keypair("demo-key")
    expect("a key pair", (pair.name, pair.user_id, pair.fingerprint[:5]), ("demo-key", USER_ID, "49:ef"))
    refused(
        "an unknown key pair",
        lambda: cloud.compute.get_keypair("none"),
        exceptions.NotFoundException,
        404,
        "none",
    )


def change(cloud: Any, first: Any, url: str) -> None:
    """Stop, rebuild, follow and start; be refused where it is due."""
    compute = cloud.compute
    refused(
        "a start of a running server",
        lambda: compute.start_server(first.id),
        exceptions.ConflictException,
        409,
        "while it is in vm_state active",
    )
    compute.stop_server(first.id)
    stopped = compute.wait_for_server(first, status="SHUTOFF", interval=0.1, wait=60)
    expect("stopped", (stopped.vm_state, stopped.power_state, stopped.task_state), ("stopped", 4, None))
    refused(
        "a stop of a stopped server",
        lambda: compute.stop_server(first.id),
        exceptions.ConflictException,
        409,
        "while it is in vm_state stopped",
    )
    built = compute.rebuild_server(
        first.id, IMAGE_ID, key_name="demo-key", user_data=USER_DATA, metadata={"role": "web", "env": "prod"}
    )
    expect(
        "a rebuild's answer", (built.id, built.status, built.task_state), (first.id, "REBUILD", "rebuilding")
    )
    expect("with a password of Nova's", len(built.admin_password), 12)
    refused(
        "a rebuild of a server in rebuild",
        lambda: compute.rebuild_server(first.id, IMAGE_ID),
        exceptions.ConflictException,
        409,
        "while it is in task_state",
    )
    follow(compute, first.id)
    rebuilt = compute.wait_for_server(built, status="SHUTOFF", interval=0.1, wait=60)
    expect("launches kept", {rebuilt.launched_at} & {first.launched_at}, set())
    compute.start_server(first.id)
    started = compute.wait_for_server(rebuilt, status="ACTIVE", interval=0.1, wait=60)
    expect("started", (started.vm_state, started.power_state, started.task_state), ("active", 1, None))
    again = cloud.rebuild_server(first.id, PLAIN_IMAGE_ID, "aPassword1!", wait=True, timeout=60)
    expect("a rebuild as people do it", (again.status, again.image.id), ("ACTIVE", PLAIN_IMAGE_ID))
    order_fault(url, "job-fails", text="no valid host", leaves="ERROR", when={"server": first.name})
    compute.rebuild_server(first.id, IMAGE_ID)
    try:
        compute.wait_for_server(compute.get_server(first.id), status="ACTIVE", interval=0.1, wait=60)
    except exceptions.ResourceFailure:
        print("ok: a rebuild that fails")
    else:
        raise Mismatch("a rebuild that fails: the client did not notice")
    failed = compute.get_server(first.id)
    expect("its fault", (failed.fault["code"], failed.fault["message"]), (500, "no valid host"))


def follow(compute: Any, server: str) -> None:
    """Follow the newest rebuild in Nova's log to its end."""
    newest = next(iter(compute.server_actions(server)))
    expect(
        "the newest action", (newest.action, newest.message, newest.project_id), ("rebuild", None, PROJECT_ID)
    )

    def ended() -> Any:
        line = compute.get_server_action(newest.request_id, server)
        return next((each for each in line.events if each.event == "compute_rebuild_instance"), None)

    event = until(
        "the rebuild's end", ended, lambda event: event is not None and event.finish_time is not None
    )
    expect("how it ended", event.result, "Success")
    oldest = list(compute.server_actions(server))[-1]
    expect("the oldest action", oldest.action, "create")
    refused(
        "an unknown action",
        lambda: compute.get_server_action("req-none", server),
        exceptions.NotFoundException,
        404,
        "req-none",
    )


def be_refused(cloud: Any, server: Any, url: str) -> None:
    """Read the errors that are left."""
    compute = cloud.compute
    refused(
        "an unknown server",
        lambda: compute.get_server("none"),
        exceptions.NotFoundException,
        404,
        "could not be found",
    )
    refused(
        "a stop of an unknown server",
        lambda: compute.stop_server("none"),
        exceptions.NotFoundException,
        404,
        "none",
    )
    bad = exceptions.BadRequestException
    for what, words, order in (
        ("image", "Cannot find image", {"image": "none"}),
        ("key pair", "Invalid key_name", {"image": IMAGE_ID, "key_name": "none"}),
        ("user data", "user_data", {"image": IMAGE_ID, "user_data": "%%%"}),
    ):
        refused(
            f"a rebuild with a wrong {what}",
            lambda order=order: compute.rebuild_server(server.id, **order),
            bad,
            400,
            words,
        )
    odd = {"rebuild": {"imageRef": IMAGE_ID, "no_such_field": True}}
    answer = compute.post(f"/servers/{server.id}/action", json=odd, microversion="2.93")
    expect(
        "a rebuild with an unknown field", (answer.status_code, list(answer.json())), (400, ["badRequest"])
    )
    early = {"rebuild": {"imageRef": IMAGE_ID, "user_data": USER_DATA}}
    answer = compute.post(f"/servers/{server.id}/action", json=early, microversion="2.56")
    expect("a rebuild with a field of a later microversion", answer.status_code, 400)
    compute.lock_server(server.id)
    expect("locked", repr(compute.get_server(server.id).is_locked), "True")
    for what, call in (
        ("stop", lambda: compute.stop_server(server.id)),
        ("rebuild", lambda: compute.rebuild_server(server.id, IMAGE_ID)),
    ):
        # 409, and not 403: that is how Nova says it (InstanceIsLocked).
        refused(f"a {what} of a locked server", call, exceptions.ConflictException, 409, "is locked")
    compute.unlock_server(server.id)
    reader = connect(url, username="reader", password="reader", user_domain_name="simulator", **PROJECT)
    expect("what a reader may", reader.compute.get_server(server.id).id, server.id)
    refused(
        "what a reader may not",
        lambda: reader.compute.rebuild_server(server.id, IMAGE_ID),
        exceptions.ForbiddenException,
        403,
        "os_compute_api:servers:rebuild",
    )
    expect("key pairs of a reader", list(reader.compute.keypairs()), [])
    too_new = cloud.compute.get(f"/servers/{server.id}", microversion="2.999")
    expect("a microversion that is too new", too_new.status_code, 406)
    old = cloud.compute.get(f"/servers/{server.id}", microversion="2.1").json()["server"]
    expect("what the oldest one shows", ("locked" in old, "vcpus" in old["flavor"]), (False, False))


def lose_the_token(cloud: Any, server: str, url: str) -> None:
    """See that the client understands an ended token, and gets another one by itself."""
    before = cloud.session.get_token()
    order_fault(url, "token-expiry", when={"call": "show"})
    expect("a read with an ended token", cloud.compute.get_server(server).id, server)
    expect("tokens kept", {cloud.session.get_token()} & {before}, set())


def judge(url: str) -> None:
    """Ask everything; raises Mismatch at the first wrong answer."""
    for name in [name for name in os.environ if name.startswith("OS_")]:
        del os.environ[name]
    os.environ["OS_CLIENT_CONFIG_FILE"] = os.devnull  # neither files nor variables have a say here
    for kind in (openstack.warnings.ConfigurationWarning, openstack.warnings.UnsupportedServiceVersion):
        warnings.simplefilter("error", kind)
    complaints = Complaints()
    logging.getLogger("keystoneauth").addHandler(complaints)
    logging.getLogger("openstack").addHandler(complaints)
    expect("the simulator", plain(url, "GET", "/_simulator/health")[0], 200)
    cloud = log_in(url)
    discover(cloud, url)
    web = read(cloud)
    around(cloud)
    change(cloud, web[-1], url)
    be_refused(cloud, web[-2], url)
    lose_the_token(cloud, web[-2].id, url)
    # There is no network service here, and the client goes on without.
    said = [each for each in complaints.said if "service_type=network" not in each]
    expect("what the client complained of", said, [])


if __name__ == "__main__":
    sys.exit(run(judge, "openstacksdk agrees"))
