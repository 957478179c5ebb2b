"""Write down what our reader makes of each login: what the identity service would be asked, and the rest."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from login_cases import CASES, Case

from fleet.cloud.ecs.login import find
from fleet.cloud.ecs.login_key import KeyCredentials
from fleet.core.settings import CloudSettings


def read(case: Case) -> dict[str, Any]:
    """Read one, in a home and current folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environ = case.prepare(Path(folder))
        os.chdir(folder)
        found = find(CloudSettings(provider="openstack"), environ, keystone=True)
        assert not isinstance(found.credentials, KeyCredentials)
        return {
            "url": f"{found.url}/v3/auth/tokens",
            "body": json.loads(found.credentials.body()),
            "region": found.region,
            "cacert": found.cafile,
            "compute": found.endpoints.get("compute"),
        }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps({case.name: read(case) for case in CASES}), encoding="utf-8")
    print(f"recorded {len(CASES)} logins as we read them")
