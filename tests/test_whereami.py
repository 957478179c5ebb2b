"""What this machine stands on: from copies of the kernel's tables, and from the real ones."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.claims import HalfDone
from fleet.core.model import Server, ServerId
from fleet.core.settings import CloudSettings, Settings
from fleet.objections import Objections
from fleet.whereami import OVERRIDE, addresses_of, stood_on

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101140A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001140A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth1\t00000000\t00000000\t0001\t0\t0\t100\t00000000\t0\t0\t0
"""
ROUTES_6 = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "20010db8000000000000000000000001 00000400 00000000 00000000 00450003 eth0\n"
    "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000000 00000000 00000001 eth0\n"
)
TRIE = """\
Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.20.1.9
        /32 host LOCAL
     |-- 10.20.1.255
        /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
"""
MOUNTS = """\
22 1 253:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
40 22 0:40 / /srv/state rw shared:9 - nfs4 nas.example.com:/export/state rw,addr=10.20.9.9
41 22 0:41 / /srv/state/local rw shared:9 - ext4 /dev/vdb rw
42 22 0:42 / /srv/my\\040plans rw - cifs //10.20.9.8/plans rw
43 22 0:43 / /srv/home rw - fuse.sshfs ops@[2001:db8::7]:/home rw
"""
NAMES = {"nas.example.com": ["10.20.9.9", "2001:db8::9"], "proxy.example.com": ["10.20.9.7"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "proc/net/route": ROUTES,
        "proc/net/ipv6_route": ROUTES_6,
        "proc/net/fib_trie": TRIE,
        "proc/net/if_inet6": "20010db8000000000000000000000005 02 40 00 80 eth0\n"
        "fe800000000000000000000000000005 02 40 20 80 eth0\n",
        "etc/resolv.conf": "# made by hand\nsearch x\nnameserver 127.0.0.53\nnameserver 10.20.9.1 # x\n",
        "run/systemd/resolve/resolv.conf": "nameserver 10.20.9.2\nnameserver fe80::53%eth0\n",
        "proc/self/mountinfo": MOUNTS,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def found(root: Path, *folders: str, **environ: str) -> dict[str, str]:
    return stood_on(map(Path, folders), root=root, environ=environ, lookup=lambda host: NAMES.get(host, []))


def test_what_every_machine_stands_on(root: Path) -> None:
    assert found(root) == {
        "10.20.1.9": "an address of this very machine",
        "2001:db8::5": "an address of this very machine",
        "10.20.1.1": "its default gateway",
        "2001:db8::1": "its default gateway",
        "10.20.9.1": "its DNS resolver",
        "10.20.9.2": "its DNS resolver",
    }


@pytest.mark.parametrize(
    ("folder", "address"),
    [
        ("/srv/state", "10.20.9.9"),
        ("/srv/state/web/deep", "2001:db8::9"),
        ("/srv/my plans", "10.20.9.8"),
        ("/srv/home/ops", "2001:db8::7"),
        ("/srv/state/local/x", None),
        ("/srv/statement", None),
        ("/var/lib/fleet", None),
    ],
)
def test_the_host_of_the_disk_that_the_journal_is_on(root: Path, folder: str, address: str | None) -> None:
    more = {name: why for name, why in found(root, folder).items() if "the host of the disk" in why}
    assert (address in more) if address else not more
    assert all(folder in why for why in more.values())


@pytest.mark.parametrize(
    ("environ", "address", "why"),
    [
        ({"https_proxy": "http://ops:secret@proxy.example.com:3128"}, "10.20.9.7", "its proxy"),
        ({"HTTP_PROXY": "10.20.9.6:3128"}, "10.20.9.6", "its proxy"),
        ({"ALL_PROXY": "socks5://[2001:db8::8]:1080"}, "2001:db8::8", "its proxy"),
        ({"SSH_CONNECTION": "10.20.9.5 50000 10.20.1.9 22"}, "10.20.9.5", "SSH session"),
        ({"HTTP_PROXY": "http://[broken"}, None, ""),
        ({"HTTP_PROXY": "http://127.0.0.1:3128"}, None, ""),
        ({"HTTP_PROXY": "http://unknown.example.com"}, None, ""),
    ],
)
def test_what_the_environment_tells(
    root: Path, environ: dict[str, str], address: str | None, why: str
) -> None:
    more = {name: what for name, what in found(root, **environ).items() if name not in found(root)}
    assert list(more) == ([address] if address else [])
    assert all(why in what and "secret" not in what for what in more.values())


def test_a_person_may_know_better(root: Path) -> None:
    assert found(root, **{OVERRIDE: "none"}) == {}
    assert list(found(root, **{OVERRIDE: " 10.9.9.9, 2001:DB8::1 ,x"})) == ["10.9.9.9", "2001:db8::1"]


def test_a_machine_without_any_of_it(tmp_path: Path) -> None:
    assert found(tmp_path, "/srv/state") == {}


def test_this_very_machine() -> None:
    """The real tables: the address that we would speak from is among our own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.250", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no route")
        own = probe.getsockname()[0]
    assert own == "127.0.0.1" or own in stood_on()
    assert addresses_of("no-such-host.invalid") == []


def test_a_server_with_such_an_address_is_objected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OVERRIDE, "10.20.1.7,80.158.0.7")
    settings = Settings(
        plan="p", digest="", folder=str(tmp_path), cloud=CloudSettings(provider="ecs"), targets=()
    )
    servers = [
        Server(id=ServerId("a"), addresses=("10.20.1.7",)),
        Server(id=ServerId("b"), addresses=("10.20.1.8",), public_addresses=("80.158.0.7",)),
        Server(id=ServerId("c"), addresses=("10.20.1.70",)),
    ]
    objections = Objections(tmp_path / "state", settings).of(servers)
    assert sorted(objections) == ["a", "b"]
    assert "this machine stands on it: 80.158.0.7" in objections[ServerId("b")][0].message
    assert OVERRIDE in objections[ServerId("b")][0].hint
    assert not (tmp_path / "state").exists(), "a preview makes no folders"


def test_it_costs_no_time() -> None:
    """Without network file systems and proxies nothing is looked up by name."""
    code = (
        "import socket, sys\n"
        "socket.getaddrinfo = lambda *a, **k: sys.exit(3)\n"
        "from fleet.whereami import stood_on\n"
        "from pathlib import Path\n"
        "stood_on((Path('/'),), environ={})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_words_of_what_is_left_half_done() -> None:
    assert "fleet resume r" in HalfDone("r", "r", ("a",)).hint
    assert "live/r.json" in HalfDone("r", "/x.jsonl", ("a",), "its journal is not there").hint
