"""Logins in files: ``clouds.yaml``, ``secure.yaml``, ``clouds-public.yaml``, and Huawei's credentials file.

Places and merging are those of openstacksdk: of each file the first one that exists counts, and secure.yaml
is laid over clouds.yaml. Two things are stricter here. An entry is used only when somebody names it, even if
it is the only one: this tool wipes disks. And a value of the wrong type is an error: YAML reads 0123 as 83.
"""

from __future__ import annotations

import configparser
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fleet.errors import CloudUnusable

ENDINGS = (".yaml", ".yml", ".json")
MAX_SIZE = 1024 * 1024
"""Bytes; nobody's clouds.yaml is longer, a wrong path may be."""

VENDORS: Mapping[str, Mapping[str, Any]] = {
    "otc": {
        "auth": {"auth_url": "https://iam.{region_name}.otc.t-systems.com/v3"},
        "regions": ["eu-de", "eu-nl"],
    },
    "otc-swiss": {
        "auth": {"auth_url": "https://iam-pub.{region_name}.sc.otc.t-systems.com/v3"},
        "regions": ["eu-ch2"],
    },
}
"""Vendor profiles that openstacksdk brings along (``openstack/config/vendors``): those of ECS clouds."""


_FREE = frozenset({"password", "application_credential_secret"})
"""What people think up, and may begin or end with a space."""

_SECRETS = ("password", "token", "sk", "secret_key", "application_credential_secret")


@dataclass(frozen=True, slots=True)
class Entry:
    """One cloud of clouds.yaml, merged.

    Attributes:
        where: ``clouds.NAME in PATH``, for messages.
        values: Of the entry itself.
        auth: Of its ``auth``.
        warnings: What is odd about the files.
    """

    where: str
    values: Mapping[str, Any] = field(repr=False)
    auth: Mapping[str, Any] = field(repr=False)
    warnings: tuple[str, ...] = ()

    def text(self, *names: str) -> str | None:
        """Return the first of *names* that is there, in ``auth`` or beside it.

        Raises:
            CloudUnusable: It is no text, or an odd one. It is not quoted.
        """
        for name in names:
            for place, values in (("auth.", self.auth), ("", self.values)):
                value = values.get(name)
                if value is None or value == "":
                    continue
                key = f"{place}{name}"
                if not isinstance(value, str):
                    kind = "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"
                    raise CloudUnusable(
                        f"{self.where}: {key} is {kind}, not text", hint=f"put {name} in quotes"
                    )
                if any(unicodedata.category(letter) == "Cc" for letter in value):
                    raise CloudUnusable(
                        f"{self.where}: {key} has a line break or another control character in it",
                        hint="it came along when the value was copied, or read from a file: take it out",
                    )
                if value != value.strip() and name not in _FREE:
                    raise CloudUnusable(
                        f"{self.where}: {key} begins or ends with a space", hint="take the space out"
                    )
                return value
        return None


def read_cloud(name: str, environ: Mapping[str, str]) -> Entry:
    """Return an entry of clouds.yaml.

    Raises:
        CloudUnusable: There is no such file, entry or profile, or it cannot be read.
    """
    paths = list(_paths("clouds", "OS_CLIENT_CONFIG_FILE", environ))
    path = _first(paths)
    if path is None:
        raise CloudUnusable(
            f"cloud {name!r}: there is no clouds.yaml",
            hint="looked for " + ", ".join(str(each) for each in paths if each.suffix != ".json"),
        )
    clouds = _clouds(path, "clouds")
    where = f"clouds.{name} in {path}"
    warnings = []
    entry = clouds.get(name)
    if (secure := _first(_paths("secure", "OS_CLIENT_SECURE_FILE", environ))) is not None:
        over = _clouds(secure, "clouds").get(name)
        if isinstance(over, dict):
            entry = _merged(entry if isinstance(entry, dict) else {}, over)
            where += f" and {secure}"
            warnings += _open_to_others(secure)
    if not isinstance(entry, dict):
        known = ", ".join(sorted(str(each) for each in clouds)) or "none"
        raise CloudUnusable(f"{path} has no cloud {name!r}", hint=f"it has: {known}")
    entry = _with_profile(entry, where, environ)
    auth = entry.get("auth") or {}
    if not isinstance(auth, dict):
        raise CloudUnusable(f"{where}: auth is no mapping", hint="write auth: {auth_url: …, username: …}")
    if any(auth.get(key) or entry.get(key) for key in _SECRETS):
        warnings += _open_to_others(path)
    return Entry(where=where, values=entry, auth=auth, warnings=tuple(warnings))


def names_of_clouds(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the entries of clouds.yaml, for a hint; none when it is not there or not readable."""
    try:
        path = _first(_paths("clouds", "OS_CLIENT_CONFIG_FILE", environ))
        return () if path is None else tuple(sorted(str(name) for name in _clouds(path, "clouds")))
    except CloudUnusable:
        return ()


def credentials_path(environ: Mapping[str, str]) -> Path | None:
    """Return where Huawei's SDK looks for keys: its variable, else ``~/.huaweicloud/credentials``."""
    if given := environ.get("HUAWEICLOUD_SDK_CREDENTIALS_FILE"):
        return Path(given)
    home = environ.get("HOME")
    return Path(home) / ".huaweicloud" / "credentials" if home else None


def read_credentials(path: Path) -> Entry:
    """Return the section ``[basic]`` of Huawei's credentials file.

    Raises:
        CloudUnusable: It cannot be read, or has no such section.
    """
    # No interpolation: a % is as good as any other character of a key.
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_read(path))
    except configparser.Error as error:
        # Not chained, not quoted: its text has the line in it.
        raise CloudUnusable(
            f"{path}: not an INI file ({type(error).__name__})", hint="write [basic], then ak = … and sk = …"
        ) from None
    if not parser.has_section("basic"):
        raise CloudUnusable(f"{path} has no section [basic]", hint="write [basic], then ak = … and sk = …")
    values = dict(parser.items("basic"))
    return Entry(where=f"[basic] of {path}", values=values, auth={}, warnings=tuple(_open_to_others(path)))


def _paths(stem: str, variable: str, environ: Mapping[str, str]) -> Iterator[Path]:
    if given := environ.get(variable):
        # Another file of the same name elsewhere may have an entry of the same name, for another cloud.
        if not (path := Path(given).expanduser()).is_file():
            raise CloudUnusable(
                f"{variable} names {path}, and there is no such file", hint=f"mend {variable}, or unset it"
            )
        yield path
    folders = [Path()]
    if config := environ.get("XDG_CONFIG_HOME"):
        folders.append(Path(config) / "openstack")
    if home := environ.get("HOME"):
        folders.append(Path(home) / ".config" / "openstack")
    folders.append(Path("/etc/openstack"))
    for folder in folders:
        for ending in ENDINGS:
            yield folder.absolute() / f"{stem}{ending}"


def _first(paths: list[Path] | Iterator[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _clouds(path: Path, root: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        # Not chained, not quoted: the text may have the password's line in it.
        raise CloudUnusable(f"{path}{line}: not YAML", hint="check quotes and indentation there") from None
    clouds = content.get(root) if isinstance(content, dict) else None
    if not isinstance(clouds, dict):
        raise CloudUnusable(f"{path} has no {root}", hint=f"write {root}: {{NAME: {{auth: {{…}}}}}}")
    return clouds


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIZE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise CloudUnusable(f"{path} cannot be read: {why}", hint="check the path and its rights") from None


def _with_profile(entry: dict[str, Any], where: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Lay an entry over the vendor's profile that it names."""
    name = entry.get("profile") or entry.get("cloud")  # the second is its older name
    if name is None:
        return entry
    profiles: Mapping[str, Any] = VENDORS
    if (path := _first(_paths("clouds-public", "OS_CLIENT_VENDOR_FILE", environ))) is not None:
        profiles = {**VENDORS, **_clouds(path, "public-clouds")}
    found = profiles.get(name) if isinstance(name, str) else None
    if not isinstance(found, dict):
        raise CloudUnusable(
            f"{where}: profile {name!r} is not known",
            hint=f"known: {', '.join(sorted(profiles))}; or write auth_url into the entry's auth",
        )
    return _merged(found, entry)


def _merged(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _open_to_others(path: Path) -> list[str]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return []
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [f"{path} has secrets in it and is open to others (mode {stat.S_IMODE(mode):04o}): chmod 600"]
    return []
