"""openstacksdk reads the same files and variables: the same identity service is asked, in the same words."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from judgement import expect, run
from keystoneauth1 import exceptions
from login_cases import CASES, Case
from openstack.config import OpenStackConfig


class Asked(Exception):
    """The identity service would have been asked now."""


class Wire:
    """A session that notes what would be sent, and answers nothing."""

    auth = None
    sent: tuple[str, Any] | None = None

    def get(self, url: str, **_: Any) -> Any:
        raise exceptions.DiscoveryFailure(f"nobody is asked what {url} is")

    def post(self, url: str, *, json: Any, **_: Any) -> Any:
        self.sent = (url, json)
        raise Asked


def read(case: Case) -> dict[str, Any]:
    """Read one as openstacksdk does; its current folder is looked up when it is imported, so it is given."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in [name for name in os.environ if name.startswith("OS_")]:
            del os.environ[name]
        os.environ.update(case.prepare(home))
        places = [home, home / ".config" / "openstack"]

        def paths(stem: str) -> list[str]:
            return [str(place / f"{stem}{end}") for place in places for end in (".yaml", ".yml", ".json")]

        config = OpenStackConfig(
            config_files=paths("clouds"), secure_files=paths("secure"), vendor_files=paths("clouds-public")
        ).get_one()
        wire = Wire()
        with contextlib.suppress(Asked):
            config.get_auth().get_auth_ref(wire)
        url, body = wire.sent or ("", None)
        verify, _ = config.get_requests_verify_args()
        return {
            "url": url,
            "body": body,
            "region": config.get_region_name() or None,
            "cacert": verify if isinstance(verify, str) else None,
            "compute": config.config.get("compute_endpoint_override"),
        }


def judge(path: str) -> None:
    """Compare every login. That nothing answers is meant so, and need not be said each time."""
    logging.disable(logging.WARNING)
    ours = json.loads(Path(path).read_text(encoding="utf-8"))
    for case in CASES:
        expect(case.name, ours[case.name], read(case))


if __name__ == "__main__":
    sys.exit(run(judge, "openstacksdk logs in with the same words"))
