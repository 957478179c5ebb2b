"""The format of a plan file, field by field.

Strict on purpose: text is no number, ``no`` is no boolean, an unknown field is an error. Nearly every field
is optional here and has no default: the defaults are in `fleet.core.settings`, once. The descriptions are
what an editor shows. Rules that need more than one field are in `fleet.plan.check`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, WithJsonSchema, model_validator

from fleet.core.settings import NOTICES
from fleet.plan.fields import FEW, Duration, Listed, Name, Short, Text, Texts, Timeout, one_of, wrong
from fleet.plan.pacing import Failures, Freeze, Gate, Limits, Part, Rollout, Window
from fleet.plan.words import (
    Command,
    Endpoint,
    EnvName,
    NameGlob,
    Network,
    Port,
    Regex,
    ServerUrl,
    Status,
    TagValues,
)

Provider = Annotated[
    str,
    one_of("provider", "ecs", "simulator", "openstack"),
    WithJsonSchema({"enum": ["ecs", "simulator", "openstack"]}),
]


class Endpoints(Part):
    """Other addresses of the cloud's services than the region's own."""

    ecs: Endpoint | None = Field(None, description="Elastic Cloud Server")
    iam: Endpoint | None = Field(None, description="Identity and Access Management")
    ims: Endpoint | None = Field(None, description="Image Management Service")
    evs: Endpoint | None = Field(None, description="Elastic Volume Service, for the disk quota")
    as_: Endpoint | None = Field(None, alias="as", description="Auto Scaling")
    cbr: Endpoint | None = Field(None, description="Cloud Backup and Recovery")
    cts: Endpoint | None = Field(None, description="Cloud Trace Service, for `fleet check --cloud`")
    identity: Endpoint | None = Field(None, description="OpenStack: Keystone")
    compute: Endpoint | None = Field(None, description="OpenStack: Nova")
    image: Endpoint | None = Field(None, description="OpenStack: Glance")


class Cloud(Part):
    """Which cloud, and how it is spoken to."""

    provider: Provider | None = Field(None, description="Kind of cloud; ecs unless said otherwise")
    profile: Text | None = Field(None, description="An entry of clouds.yaml; without it, the environment")
    region: Text | None = Field(None, description="Region, such as eu-de; without it, the environment")
    endpoints: Endpoints | None = Field(None, description="Other addresses of the services; https")
    requests_per_second: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="Ceiling of all calls together; the client also slows down by itself"
    )


class Inventory(Part):
    """An Ansible inventory: what `ansible-inventory --list` prints, or a YAML or INI file."""

    whole: ClassVar[bool] = True

    file: Text = Field(description="The file, read when the plan is read; from the plan's folder")
    group: Text | None = Field(
        None, description="One group of it, with the groups below; every host if absent"
    )


class Select(Part):
    """Which servers. Every given field must match; a list means any of."""

    ids: Texts | None = Field(None, description="Server ids")
    name: Annotated[list[NameGlob], Listed(empty=FEW)] | None = Field(
        None, description='Globs ("web-*", case-sensitive, the whole name) or {regex: …}; any of them'
    )
    tags: dict[str, TagValues] | None = Field(
        None, description='Tag to its values, any of them; "*": the tag is there', min_length=1
    )
    availability_zone: Texts | None = Field(None, description="Availability zones")
    status: Annotated[list[Status], Listed(empty=FEW)] | None = Field(
        None, description="States: ACTIVE, SHUTOFF …"
    )
    flavor: Texts | None = Field(None, description="Flavors")
    image: Texts | None = Field(None, description="Ids of the images the servers were made from")
    vpc: Texts | None = Field(None, description="Ids of networks (VPCs) that the servers have an address in")
    ip: Annotated[list[Network], Listed(empty=FEW)] | None = Field(
        None, description="Addresses, or networks in CIDR form, with any address of the server in them"
    )
    enterprise_project: Texts | None = Field(None, description="Ids of enterprise projects")
    older_than: Timeout | None = Field(
        None, description="Created at least so long ago; a reinstall makes no server younger"
    )
    inventory: Annotated[Inventory, Short("file", (str,))] | None = Field(
        None, description="An Ansible inventory that lists the servers, by name or address"
    )


class Removal(Select):
    """Which servers are taken away. Any one of the given conditions is enough."""


class Expect(Part):
    """How many servers a selector must match; more or less stops everything before it starts."""

    min: Annotated[int, Field(ge=0)] | None = Field(None, description="At least so many servers")
    max: Annotated[int, Field(ge=1)] | None = Field(None, description="At most so many servers")


class Choice(Part):
    """Exactly one of its fields is given. It is overridden as a whole, never merged."""

    whole: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ()
    bare: ClassVar[str] = "a bare value does not belong here"

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, value: object) -> object:
        words = " or ".join(f"{{{name}: …}}" for name in cls.choices)
        if not isinstance(value, dict):
            if isinstance(value, list):
                raise wrong("one mapping was expected, found a list", f"write {words}")
            raise wrong(cls.bare, f"write {words}")
        given = [name for name in cls.choices if name in value]
        if len(given) > 1:
            raise wrong(
                f"{' and '.join(given)} cannot both be given", f"keep one of: {', '.join(cls.choices)}"
            )
        if not given and not set(value) - set(cls.model_fields):  # else the unknown field is the news
            raise wrong(f"one of {', '.join(cls.choices)} is missing", f"write {words}")
        return value


class Secret(Choice):
    """Where a secret is to be had; it never stands in the plan itself."""

    choices: ClassVar[tuple[str, ...]] = ("env", "file", "command")
    bare: ClassVar[str] = "a secret never stands in the plan itself"

    env: EnvName | None = Field(None, description="Name of an environment variable")
    file: Text | None = Field(None, description="A file that only its owner can read; its first line")
    command: Command | None = Field(None, description="A command; the first line that it prints")


class UserData(Choice):
    """What cloud-init finds when the server starts."""

    choices: ClassVar[tuple[str, ...]] = ("file", "text", "template")

    file: Text | None = Field(None, description="A file, sent as it is")
    text: Text | None = Field(None, description="The text itself")
    template: Text | None = Field(None, description="A Jinja template, rendered for each server")


class Reinstall(Part):
    """With what a server is reinstalled."""

    key_pair: Text | None = Field(
        None, description="Name of the key pair; exactly one of it and admin_password"
    )
    user_id: Text | None = Field(None, description="Owner of the key pair; the authenticated user by default")
    admin_password: Secret | None = Field(None, description="Where root's password is to be had")
    user_data: UserData | None = Field(None, description="What cloud-init finds; null: none")
    byol: bool | None = Field(None, description="Bring your own licence")
    mode: (
        Annotated[Literal["stop-first", "with-stop-server"], one_of("mode", "stop-first", "with-stop-server")]
        | None
    ) = Field(None, description="stop-first: fleet stops the server; with-stop-server: the cloud does")
    cloud_init: (
        Annotated[
            bool | Literal["auto"],
            Field(union_mode="left_to_right"),
            WithJsonSchema({"enum": ["auto", True, False]}),
        ]
        | None
    ) = Field(None, description="auto reads the image; true: the v2 call; false: the v1 call")
    image: Text | None = Field(None, description="Another image's id: the OS is changed, not reinstalled")
    timeout: Timeout | None = Field(None, description="Watched time for being accepted, and for the job")
    attempts: Annotated[int, Field(ge=1, le=5)] | None = Field(
        None, description="Reinstalls of one server that may be accepted, failed ones counted"
    )
    settle: Timeout | None = Field(
        None, description="How long a request without an answer is watched before it is concluded upon"
    )
    preserve_ephemeral: bool | None = Field(
        None, description="OpenStack: leave the ephemeral disk as it is, where the hypervisor can"
    )


class Stop(Part):
    """How a server is stopped."""

    soft_timeout: Duration | None = Field(None, description="Time that the guest gets to shut down")
    then: Annotated[Literal["hard", "fail"], one_of("ending", "hard", "fail")] | None = Field(
        None, description="What follows: power off, or give the server up untouched"
    )


class Tcp(Part):
    """A port of the private address accepts connections."""

    port: Port = Field(description="1 to 65535")


class Ssh(Part):
    """An SSH server answers with its banner on a port of the private address."""

    port: Port = Field(description="1 to 65535")


class Http(Part):
    """A URL answers with a status."""

    url: ServerUrl = Field(description="With {server.private_ip} and the like")
    status: Annotated[int, Field(ge=100, le=599)] | None = Field(None, description="Expected HTTP status")
    body: Regex | None = Field(None, description="Regular expression that is found in the answer")
    tls: bool | None = Field(None, description="false: certificates are not checked")


class Check(Choice):
    """One thing to verify after the job; one of tcp, http, command, ssh."""

    choices: ClassVar[tuple[str, ...]] = ("tcp", "http", "command", "ssh")

    tcp: Annotated[Tcp, Short("port", (int, str))] | None = Field(
        None, description="A port accepts connections"
    )
    http: Annotated[Http, Short("url", (str,))] | None = Field(None, description="A URL answers")
    command: Command | None = Field(None, description="A command ends with 0; {server.name} and the like")
    ssh: Annotated[Ssh, Short("port", (int, str))] | None = Field(
        None, description="A port has an SSH banner"
    )
    timeout: Timeout | None = Field(None, description="Only with command: it is killed after so long")


class NoncePage(Part):
    """A URL whose answer has the nonce in it."""

    url: ServerUrl = Field(description="With {server.private_ip} and the like")
    tls: bool | None = Field(None, description="false: certificates are not checked")


class Nonce(Choice):
    """Where a server shows the word that its user data was rendered with ({{ fleet.nonce }})."""

    choices: ClassVar[tuple[str, ...]] = ("command", "http")

    command: Command | None = Field(None, description="A command that prints it; {server.name} and the like")
    http: Annotated[NoncePage, Short("url", (str,))] | None = Field(None, description="A URL that shows it")
    timeout: Timeout | None = Field(None, description="Only with command: it is killed after so long")


class Verify(Part):
    """When a reinstalled server counts as verified."""

    timeout: Timeout | None = Field(None, description="Watched time for all of it")
    checks: Annotated[list[Check], Listed()] | None = Field(
        None, description="All must pass, after the job succeeded and the system disk is a new one"
    )
    stable_for: Duration | None = Field(None, description="… and go on passing for so long")
    nonce: Nonce | None = Field(
        None, description="Proves that it is this run's installation; needs a template with {{ fleet.nonce }}"
    )


class Around(Part):
    """Something done before a server is touched, and undone afterwards."""

    do: Command = Field(description="Before; if it fails, the server is left untouched")
    undo: Command = Field(description="When the server is given back")
    timeout: Timeout | None = Field(None, description="For each of them")


class Hooks(Part):
    """Commands run along the way, with the facts in FLEET_* variables and as JSON on stdin."""

    around_server: Annotated[list[Around], Listed()] | None = Field(
        None, description="Done before a server is touched and undone afterwards"
    )
    before_run: Command | None = Field(None, description="Before anything is started; it fails: held")
    after_run: Command | None = Field(None, description="At the end")
    before_wave: Command | None = Field(None, description="Before a wave is started; it fails: held")
    after_wave: Command | None = Field(None, description="When a wave is settled")
    on_failure: Command | None = Field(None, description="When a server has failed")
    on_hold: Command | None = Field(None, description="When the run is held")
    timeout: Timeout | None = Field(None, description="For each of these; 5m")
    env: Annotated[list[EnvName], Listed()] | None = Field(
        None, description="Environment variables that hooks get besides PATH, HOME and the like"
    )


Leave = Annotated[Literal["as-found", "running"], one_of("state to leave a server in", "as-found", "running")]


class Backup(Part):
    """A point to go back to that must exist before a server is wiped."""

    whole: ClassVar[bool] = True

    younger_than: Timeout | None = Field(
        None, description="The cloud's own backup of the server may be so old; without `command` only"
    )
    command: Command | None = Field(
        None, description="Ends with 0 when there is one, where the cloud cannot say"
    )
    timeout: Timeout | None = Field(None, description="Of the command; 1m")

    @model_validator(mode="after")
    def _one_of_them(self) -> Backup:
        if self.younger_than is None and self.command is None:
            raise wrong("neither younger_than nor command is given", "write backup: {younger_than: 24h}")
        if self.younger_than is not None and self.command is not None:
            raise wrong(
                "younger_than asks the cloud, and command asks something else",
                "keep one of them: the command is told nothing of an age",
            )
        if self.timeout is not None and self.command is None:
            raise wrong("`timeout` is for a command", "take it out")
        return self


class Require(Part):
    """What must be there before a server is wiped; looked at in the pre-flight and again right before."""

    backup: Backup | None = Field(None, description="A point to go back to")


class Parameters(Part):
    """What may be said for all targets and for one."""

    key_pair: Text | None = Field(None, description="Short for reinstall.key_pair")
    admin_password: Secret | None = Field(None, description="Short for reinstall.admin_password")
    stop: Stop | None = Field(None, description="How a server is stopped")
    reinstall: Reinstall | None = Field(None, description="With what a server is reinstalled")
    verify: Verify | None = Field(None, description="When a reinstalled server counts as verified")
    hooks: Hooks | None = Field(None, description="Commands run along the way")
    leave: Leave | None = Field(None, description="How a server that was off is left")
    require: Require | None = Field(None, description="What must be there before a server is wiped")


class Defaults(Parameters):
    """For every target; a target may override any of it, field by field."""


class Target(Parameters):
    """A selector and its parameters."""

    name: Name | None = Field(None, description="Unique in the plan; a-z, 0-9 and -")
    select: Select | None = Field(None, description="Which servers")
    exclude: Removal | None = Field(None, description="Of those, which not; any condition is enough")
    expect: Expect | None = Field(None, description="How many servers there must be")
    rollout: Rollout | None = Field(None, description="Overrides the plan's rollout, field by field")
    needs: Annotated[list[Name], Listed()] | None = Field(
        None, description="Targets that must be through before; [] starts at once"
    )


On = Annotated[str, one_of("event to notify of", *NOTICES), WithJsonSchema({"enum": list(NOTICES)})]
Shape = Annotated[
    Literal["slack", "teams", "json"], one_of("format of a notification", "slack", "teams", "json")
]


class Notify(Part):
    """Whom to tell what: a webhook or a command."""

    webhook: Secret | None = Field(None, description="Where the webhook's URL is to be had: {env: …}")
    command: Command | None = Field(None, description="A command that is told on standard input")
    on: Annotated[list[On], Listed(empty="name the events")] | None = Field(
        None, description="Of which events; everything but started by default"
    )
    format: Shape | None = Field(
        None, description="What a webhook is sent: slack (also Mattermost), teams, or json"
    )
    to: Text | None = Field(None, description="Who reads it, such as #web-oncall; for people")
    env: Annotated[list[EnvName], Listed()] | None = Field(
        None, description="Environment variables that a command gets besides PATH, HOME and the like"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Notify:
        if (self.webhook is None) == (self.command is None):
            both = "both a webhook and a command" if self.webhook else "neither a webhook nor a command"
            raise wrong(f"{both} to tell", "write webhook: {env: SLACK_WEBHOOK}, or command: [./page]")
        if self.webhook is None and self.format is not None:
            raise wrong("`format` is for a webhook; a command is told in JSON", "take it out")
        if self.command is None and self.env is not None:
            raise wrong("`env` is for a command", "take it out")
        if self.to is not None and "://" in self.to:
            raise wrong("`to` is for people, and no URL", "write who reads it, such as #web-oncall")
        return self


class Plan(Target):
    """A plan for `fleet`: which servers are reinstalled, with what, and how carefully.

    ``select`` and ``key_pair`` at the top, without ``targets``, are a whole plan.
    """

    version: Annotated[int, Field(ge=1, le=1)] | None = Field(None, description="Version of this format: 1")
    name: Name | None = Field(None, description="Names the run's folder; the file's name by default")
    description: str | None = Field(None, description="For people")
    cloud: Cloud | None = Field(None, description="Which cloud, and how it is spoken to")
    windows: Annotated[list[Window], Listed()] | None = Field(None, description="When; none: any time")
    freeze: Annotated[list[Freeze], Listed()] | None = Field(
        None, description="Dates on which nothing is started"
    )
    protect: Removal | None = Field(
        None, description="Never touched, whatever a selector says; any condition is enough"
    )
    gates: Annotated[list[Gate], Listed()] | None = Field(
        None, description="Red, or unreadable: nothing new is started"
    )
    rollout: Rollout | None = Field(None, description="How many at a time, and how many may fail")
    failures: Failures | None = Field(
        None, description="How many servers of the whole run may fail, over all targets"
    )
    claim: bool | None = Field(
        None, description="Tag servers that are worked on, so that runs on other machines see it"
    )
    limits: Limits | None = Field(None, description="Servers in a stage at once, over all targets")
    defaults: Defaults | None = Field(None, description="For every target")
    targets: Annotated[list[Target], Listed(empty="add a target")] | None = Field(
        None, description="One after another in this order"
    )
    notify: Annotated[list[Notify], Listed()] | None = Field(None, description="Whom to tell what")
