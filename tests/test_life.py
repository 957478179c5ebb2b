"""What a life checks before it goes on with somebody else's run."""

from __future__ import annotations

import msgspec
import pytest
from support import make_run

from fleet.core.model import Identity
from fleet.errors import PlanError
from fleet.life import check_edit, check_identity

US = Identity(user_id="u", user_name="deploy", project_id="p", project_name="prod", cloud="c")


def test_the_same_cloud_and_project_is_fine() -> None:
    check_identity(make_run(), US)


@pytest.mark.parametrize("other", [{"project_id": "q"}, {"cloud": "another cloud"}])
def test_a_run_goes_on_on_its_own_cloud_and_project_only(other: dict[str, str]) -> None:
    """The same ids elsewhere are other servers."""
    with pytest.raises(PlanError, match="was opened on c"):
        check_identity(make_run(), msgspec.structs.replace(US, **other))


def test_an_edit_of_the_pace_is_told_and_of_whom_is_refused() -> None:
    run = make_run()
    web = run.settings.targets[0]
    faster = msgspec.structs.replace(web, rollout=msgspec.structs.replace(web.rollout, concurrency=9))
    others = msgspec.structs.replace(web, select=msgspec.structs.replace(web.select, name=("db-*",)))
    assert check_edit(run, None) == ()
    assert check_edit(run, run.settings) == ()
    changes = check_edit(run, msgspec.structs.replace(run.settings, targets=(faster,)))
    assert changes == ("targets.web.rollout.concurrency: 2 → 9",)
    with pytest.raises(PlanError, match=r"targets\.web\.select\.name: nothing → db-\*"):
        check_edit(run, msgspec.structs.replace(run.settings, targets=(others,)))
