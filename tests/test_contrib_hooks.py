"""The ready hooks, with the real tools."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).parent.parent / "contrib" / "hooks" / "known-hosts"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")
def test_keys_of_a_reinstalled_server_are_forgotten_and_no_others(tmp_path: Path) -> None:
    """By name and address, also where names are hashed; twice in a row; and without such a file."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    key = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    known = tmp_path / "known_hosts"
    facts = {"FLEET_SERVER_NAME": "web-1", "FLEET_SERVER_PRIVATE_IP": "10.0.0.1", "KNOWN_HOSTS": str(known)}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **facts}
    subprocess.run([HOOK], env=environment, check=True)
    known.write_text("".join(f"{host} {key}\n" for host in ("web-1", "10.0.0.1", "web-10", "10.0.0.10")))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, stderr=subprocess.DEVNULL)
    for _ in range(2):
        subprocess.run([HOOK], env=environment, check=True)
        assert len(known.read_text().splitlines()) == 2

    def is_known(host: str) -> bool:
        command = ["ssh-keygen", "-F", host, "-f", str(known)]
        return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0

    assert [is_known(host) for host in ("web-1", "10.0.0.1", "web-10", "10.0.0.10")] == [
        False,
        False,
        True,
        True,
    ]
