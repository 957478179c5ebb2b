"""The part of a plan's format that says when and how fast: windows, gates, waves, budgets."""

from __future__ import annotations

from datetime import datetime, time
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from fleet.plan.fields import (
    Amount,
    Attribute,
    Duration,
    Listed,
    OrderKey,
    Percent,
    Short,
    Some,
    Text,
    Wave,
    one_of,
    wrong,
)
from fleet.plan.words import Command, Dates, Moment, TimeZone, Url


class Part(BaseModel):
    """A mapping of the plan.

    Attributes:
        whole: It is overridden as a whole; else field by field.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    whole: ClassVar[bool] = False


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Annotated[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], one_of("day of the week", *DAYS)]


Nth = Annotated[
    int | Literal["last"],
    Field(union_mode="left_to_right"),
    WithJsonSchema({"enum": [1, 2, 3, 4, 5, "last"]}),
]


class Window(Part):
    """When servers may be worked on: by the clock, or from one moment to another."""

    days: Annotated[list[Day], Listed(empty="name the days, or take the field out")] | None = Field(
        None, description="Days on which the window opens; all of them by default"
    )
    nth: Annotated[list[Nth], Listed(empty="write 1 to 5, or last")] | None = Field(
        None, description="Which of the month's such days: 1 to 5, or last; all of them by default"
    )
    start: Moment = Field(alias="from", description='"22:00", or a moment with its offset')
    end: Moment = Field(alias="to", description='"04:00" (of the next day, if that is earlier), or a moment')
    timezone: TimeZone | None = Field(None, description="Of clock times: Europe/Berlin, UTC")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if isinstance(self.start, datetime) and isinstance(self.end, datetime):
            if self.end <= self.start:
                raise wrong("this window ends before it begins", "`to` must be later than `from`")
            if self.days is not None or self.nth is not None or self.timezone is not None:
                raise wrong("a window between two moments has no days and no time zone", "take them out")
        elif isinstance(self.start, time) and isinstance(self.end, time):
            if self.start == self.end:
                raise wrong(
                    "this window is never open: from and to are the same", "write two different times"
                )
            if self.timezone is None:
                raise wrong(
                    "the window does not say in which time zone", "add timezone: Europe/Berlin, or UTC"
                )
            if self.nth is not None and self.days is None:
                raise wrong("`nth` does not say of which days", "add days: [sat]")
            if any(nth != "last" and not 1 <= nth <= 5 for nth in self.nth or []):
                raise wrong("a month has 1 to 5 of any day of the week", "write 1 to 5, or last")
        else:
            raise wrong("from and to are of two kinds", "write two clock times, or two moments with offset")
        return self


class Calendar(Part):
    """Dates on which nothing is started."""

    dates: Dates | None = Field(None, description="2026-12-24, or 2026-12-24/2026-12-27")
    ical: Text | None = Field(None, description="A calendar: a file or a URL")
    command: Command | None = Field(None, description="A command that prints dates, one a line")

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, value: object) -> object:
        return _one_field(value, ("dates", "ical", "command"), "write 2026-12-24/2026-12-27 or {ical: …}")


Freeze = Annotated[Calendar, Short("dates", (str,))]


class HttpGate(Part):
    """A URL answers with a status."""

    url: Url = Field(description="http or https")
    status: Annotated[int, Field(ge=100, le=599)] | None = Field(None, description="Expected; 200")


class PromqlGate(Part):
    """A figure is below or above a bound."""

    url: Url = Field(description="Of the Prometheus server")
    query: Text = Field(description="In PromQL; one figure comes out")
    below: float | None = Field(None, description="Red from here on")
    above: float | None = Field(None, description="Red up to here")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.below is None and self.above is None:
            raise wrong("the gate has no bound", "add below: or above:")
        return self


class Gate(Part):
    """A condition for starting anything new."""

    http: Annotated[HttpGate, Short("url", (str,))] | None = Field(None, description="A URL answers")
    command: Command | None = Field(None, description="A command ends with 0")
    promql: PromqlGate | None = Field(None, description="A figure is within its bounds")

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, value: object) -> object:
        return _one_field(
            value, ("http", "command", "promql"), "write {http: …}, {command: …} or {promql: …}"
        )


def _one_field(value: object, names: tuple[str, ...], hint: str) -> object:
    if not isinstance(value, dict):
        raise wrong("a bare value does not belong here", hint)
    given = [name for name in names if name in value]
    if len(given) > 1:
        raise wrong(f"{' and '.join(given)} cannot both be given", "make two entries of them")
    if not given and not set(value) - set(names):  # else the unknown field is the news
        raise wrong(f"one of {', '.join(names)} is missing", hint)
    return value


class NeverMoreThan(Part):
    """A cap on failed and in-flight servers that opens as servers are verified."""

    at_least: Annotated[int, Field(ge=1)] = Field(description="So many are always allowed")
    of_verified: Percent = Field(description="This share of the verified ones, once that is more")


class Failures(Part):
    """How many servers may fail before nothing more is started."""

    hold_after: Amount | None = Field(
        None, description="So many may fail, one more holds; a count, or a share of the target"
    )
    in_a_row: Annotated[int, Field(ge=1)] | None = Field(None, description="So many in a row hold")
    never_more_than: NeverMoreThan | None = Field(
        None, description="A cap on failed + in flight that opens as servers are verified"
    )


class Limits(Part):
    """Servers in a stage at once, over all targets."""

    draining: Annotated[int, Field(ge=1)] | None = Field(None, description="Running their `do` hooks")
    booting: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Between the wipe and verified: at most so many boot at once"
    )


class Rollout(Part):
    """How many at a time, and how many may fail."""

    waves: Annotated[list[Wave], Listed(empty="write sizes such as [1, 5, 25%]")] | None = Field(
        None, description="Servers per wave, counts or shares of the target; the last repeats"
    )
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="Servers in flight at once"
    )
    max_unavailable: Some | None = Field(None, description="Servers out of service at once")
    spread: dict[Attribute, Annotated[int, Field(ge=1)]] | None = Field(
        None, description="Servers in flight at once per value of an attribute"
    )
    order: Annotated[list[OrderKey], Listed(empty="write [name]")] | None = Field(
        None, description="What a target's servers are put in order by; [shuffle]: by chance"
    )
    failures: Failures | None = Field(None, description="How many servers may fail")
    max_failures: Amount | None = Field(None, description="Short for failures.hold_after")
    bake: Duration | None = Field(None, description="Wait between waves; then the wave is checked again")
    approve_after: Annotated[list[Annotated[int, Field(ge=1)]], Listed()] | None = Field(
        None, description="Numbers of waves after which a person must approve"
    )
