"""Which server are we, and what do we stand on? A plan must wipe neither.

Who we are is found offline, from what cloud-init and the hypervisor leave on a cloud server: on
OpenStack-like clouds the instance id is the server's id. What we stand on is found in the kernel's tables
and the environment: without the gateway, the resolver or the disk with the journal, a run cannot go on.
Elsewhere nothing is found, and nothing needs to be.
"""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

OVERRIDE = "FLEET_STANDS_ON"
"""Environment variable: addresses that replace what is found, separated by commas, or ``none``."""

_SOURCES = (
    Path("/var/lib/cloud/data/instance-id"),  # cloud-init: readable by everybody
    Path("/run/cloud-init/.instance-id"),
    Path("/sys/class/dmi/id/product_uuid"),  # the hypervisor: readable by root
    Path("/sys/class/dmi/id/product_serial"),
)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_REMOTE = re.compile(r"nfs4?|cifs|smb3|ceph|glusterfs|fuse\.(sshfs|glusterfs)|lustre")


def own_server_ids(sources: Iterable[Path] = _SOURCES) -> frozenset[str]:
    """Return the ids that this machine may have as a cloud server; empty when it is none."""
    found: set[str] = set()
    for source in sources:
        try:
            text = source.read_text(errors="replace").lower()
        except OSError:
            continue
        found.update(_UUID.findall(text))
    return frozenset(found)


Lookup = Callable[[str], Iterable[str]]


def addresses_of(host: str) -> list[str]:
    """Return the addresses of a host; none when it has no name or nobody can tell."""
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def stood_on(
    folders: Iterable[Path] = (),
    *,
    root: Path = Path("/"),
    environ: Mapping[str, str] | None = None,
    lookup: Lookup = addresses_of,
) -> dict[str, str]:
    """Return the addresses that this machine cannot do without, each with what it is, in words.

    The default gateways, the resolvers, the hosts of network disks that *folders* are on, HTTP proxies,
    where this session was opened from, and this machine's own addresses. What cannot be read is left out;
    loopback and link-local addresses too, since no server is known by one.

    Args:
        folders: Where the journal and the plan are.
        root: Where ``proc`` and ``etc`` are looked for.
        environ: The environment. `OVERRIDE` in it replaces what would be found.
        lookup: Finds the addresses of a host given by name.
    """
    environ = os.environ if environ is None else environ
    if (given := environ.get(OVERRIDE)) is not None:
        named = (part.strip() for part in given.split(","))
        return {address: f"named in {OVERRIDE}" for part in named if (address := _plain(part))}
    found: dict[str, str] = {}
    for host, what in _hosts(folders, root, environ):
        addresses = [host] if _is_address(host) else lookup(host)
        for each in addresses:
            if address := _plain(each):
                found.setdefault(address, what if address == host else f"{what} ({host})")
    return found


def _hosts(folders: Iterable[Path], root: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield addresses and names of hosts, with what they are to us; the most telling first."""
    for address in _own_addresses(root):
        yield address, "an address of this very machine"
    for address in _gateways(root):
        yield address, "its default gateway"
    for address in _resolvers(root):
        yield address, "its DNS resolver"
    for folder in folders:
        if host := _disk_host(folder, root):
            yield host, f"the host of the disk that {folder} is on"
    for name in _PROXIES:
        for variant in (name, name.lower()):
            if host := _proxy_host(environ.get(variant, "")):
                yield host, f"its proxy, by {variant}"
    for name in ("SSH_CONNECTION", "SSH_CLIENT"):
        if origin := environ.get(name, "").split():
            yield origin[0], "where this SSH session was opened from"


def _is_address(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text.partition("%")[0]))
    return False


def _plain(text: str) -> str | None:
    """Return an address in its usual form; None when it is none, or one that no server is known by."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if not (address.is_loopback or address.is_unspecified or address.is_link_local):
            return str(address)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _gateways(root: Path) -> Iterator[str]:
    for line in _lines(root / "proc/net/route")[1:]:
        parts = line.split()
        # Destination and mask are zero on the default route; addresses are hexadecimal, in host order.
        if len(parts) >= 8 and parts[1] == parts[7] == "00000000" and parts[2] != "00000000":
            with contextlib.suppress(ValueError, struct.error):
                yield socket.inet_ntoa(struct.pack("=I", int(parts[2], 16)))
    for line in _lines(root / "proc/net/ipv6_route"):
        parts = line.split()
        if len(parts) >= 5 and parts[0] == "0" * 32 and parts[1] == "00" and parts[4] != "0" * 32:
            with contextlib.suppress(ValueError):
                yield str(ipaddress.IPv6Address(int(parts[4], 16)))


def _resolvers(root: Path) -> Iterator[str]:
    """Yield the resolvers; behind a stub on loopback those that the stub asks."""
    found = _nameservers(root / "etc/resolv.conf")
    if any(_plain(address) is None for address in found):
        found += _nameservers(root / "run/systemd/resolve/resolv.conf")
    yield from found


def _nameservers(path: Path) -> list[str]:
    words = (line.split() for line in _lines(path))
    return [parts[1] for parts in words if len(parts) > 1 and parts[0] == "nameserver"]


def _own_addresses(root: Path) -> Iterator[str]:
    """Yield the machine's own addresses, from the kernel's table of local routes."""
    before = ""
    for line in _lines(root / "proc/net/fib_trie"):
        if "/32 host LOCAL" in line:
            yield before.rpartition(" ")[2]
        before = line.rstrip()
    for line in _lines(root / "proc/net/if_inet6"):
        parts = line.split()
        if parts:
            with contextlib.suppress(ValueError):
                yield str(ipaddress.IPv6Address(int(parts[0], 16)))


def _disk_host(folder: Path, root: Path) -> str | None:
    """Return the host of the network file system that *folder* is on; None for a local one."""
    best: tuple[int, str, str] | None = None
    target = os.path.abspath(folder)  # noqa: PTH100 - as the kernel names it; nothing need exist
    with contextlib.suppress(OSError):
        target = str(Path(target).resolve())
    for line in _lines(root / "proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 2:
            continue
        mount = fields[4].replace("\\040", " ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and (best is None or len(mount) >= best[0]):
            best = (len(mount), kind[0], kind[1].replace("\\040", " "))
    if best is None or not _REMOTE.fullmatch(best[1]):
        return None
    source = best[2].removeprefix("//")  # //host/share, host:/export, user@host:path, [::1]:/export
    if match := re.match(r"(?:[^@/]*@)?(?:\[([^\]]+)\]|([^:/,]+))", source):
        return match[1] or match[2]
    return None


def _proxy_host(value: str) -> str | None:
    """Return the host of a proxy's URL, without what may be a password."""
    if not value:
        return None
    with contextlib.suppress(ValueError):
        return urlsplit(value if "//" in value else f"//{value}").hostname
    return None


def whoami() -> str:
    """Return the name of the user that we run as, for the journal."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
