"""Parsers for single values of settings: hosts, names, addresses, durations, files.

Each function takes the raw value of a flag, a variable or the file and returns the parsed one. It
raises `ValueError` with a text that says what is allowed; `loading.load` puts the names of the flag
and the variable in front.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from farlet.context import ANY

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")

_KEY_PREFIX = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,252}(/[-A-Za-z0-9_.]{0,63})?)?")

IN_CLUSTER = "in-cluster"
"""In place of a kubeconfig: the ServiceAccount of the pod that farlet runs in."""

LONGEST_TOKEN_SECONDS = 1 << 32
"""The longest life that `ValidateTokenRequest` (`pkg/apis/authentication/validation`) accepts."""


@dataclass(frozen=True, slots=True)
class Address:
    """Address that a server listens on. An empty `host`: all interfaces, IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def text(value: object) -> str:
    """A string that is not empty: an empty one never means "not set"."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")
    if not value.strip():
        raise ValueError("is empty; remove the setting or give it a value")
    if value != value.strip():
        raise ValueError(f"{value!r} begins or ends with white space; remove it")
    return value


def prefixes(value: object) -> tuple[str, ...]:
    """Beginnings of keys of labels or annotations, several; or `none`."""
    given = several(value)
    return () if given == ("none",) else tuple(map(_prefix, given))


def _prefix(value: object) -> str:
    given = text(value)
    if not _KEY_PREFIX.fullmatch(given):
        raise ValueError(
            f"{given!r} is not a prefix of a label or annotation key; expected, for example, "
            "sidecar.istio.io/"
        )
    return given


def dns_label(value: object) -> str:
    """An RFC 1123 label, as names of namespaces are."""
    name = text(value)
    if not _LABEL.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a DNS label: expected up to 63 characters a-z, 0-9 and '-', "
            "beginning and ending with a letter or digit"
        )
    return name


def dns_name(value: object) -> str:
    """An RFC 1123 subdomain, as DNS domains and names of most objects are."""
    name = text(value)
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a DNS name: expected up to 253 characters a-z, 0-9, '-' and "
            "'.', each part beginning and ending with a letter or digit"
        )
    return name


def ip(value: object) -> str:
    """An IPv4 or IPv6 address, returned in canonical form."""
    address = text(value)
    try:
        parsed = ip_address(address)
    except ValueError:
        raise ValueError(f"{address!r} is not an IP address") from None
    if "%" in address:
        raise ValueError(
            f"{address!r} has a zone ID, which is valid on one machine only; remove it"
        )
    return str(parsed)


def host(value: object) -> str:
    """An IP address (IPv6 with or without brackets, returned without) or a DNS name."""
    allowed = "expected an IPv4 address, an IPv6 address or a DNS name"
    name = text(value)
    if "://" in name or "/" in name:
        raise ValueError(f"{name!r} is a URL; {allowed}")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if ":" in bare or bare != name:
        if "%" in bare:
            raise ValueError(
                f"{name!r} has a zone ID, which is valid on one machine only; {allowed}"
            )
        try:
            parsed = ip_address(bare)
        except ValueError:
            if re.fullmatch(r"[^:]+:\d+|\[.*\]:\d+", name):
                raise ValueError(
                    f"{name!r} has a port; {allowed}. Set the port with --home-api-server-port"
                ) from None
            raise ValueError(f"{name!r} is not a valid IPv6 address; {allowed}") from None
        if parsed.version != 6:
            raise ValueError(f"{name!r} has brackets around an IPv4 address; {allowed}")
        return str(parsed)
    if re.fullmatch(r"[0-9.]+", bare):
        try:
            return str(ip_address(bare))
        except ValueError:
            raise ValueError(f"{name!r} is not a valid IPv4 address; {allowed}") from None
    if len(bare) > 253 or not _SUBDOMAIN.fullmatch(bare.lower()):
        raise ValueError(f"{name!r} is not a valid host; {allowed}")
    return bare.lower()


def number(value: object) -> object:
    """Anything but a boolean, which pydantic would convert to 0 or 1."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number; expected a whole number")
    return value


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")


def duration(value: object) -> float:
    """Seconds of a Go duration (`15s`, `1m30s`, `2h`), as in Kubernetes; also of a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    given = text(value)
    if re.fullmatch(r"\d+(\.\d+)?", given):
        return float(given)
    if not re.fullmatch(rf"({_PART.pattern})+", given):
        raise ValueError(
            f"{given!r} is not a valid duration; expected a number with a unit, such as 15s or "
            "1m30s"
        )
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(given))


def bind_address(value: object) -> Address | None:
    """`host:port`, `:port` for all interfaces, or `0` to disable the listener (`None`).

    With port 0, as in `host:0`, the kernel chooses a free port.
    """
    if isinstance(value, Address):
        return value
    if value in {0, "0"} and not isinstance(value, bool):
        return None
    given = text(value)
    name, colon, number = given.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", number) or int(number) > 65535:
        raise ValueError(
            f"{given!r} is not a valid address to listen on; expected HOST:PORT, :PORT for all "
            "interfaces, or 0 to disable it"
        )
    return Address(host(name) if name else "", int(number))


def listening_address(value: object) -> Address:
    """`host:port`, or `:port` for all interfaces."""
    address = bind_address(value)
    if address is None:
        raise ValueError(
            "this listener cannot be disabled; expected HOST:PORT, or :PORT for all interfaces"
        )
    return address


def token_lifetime(value: object) -> int | str:
    """Whole seconds of a duration from 10 minutes on, or `as-requested`.

    An API server turns a request for exactly 3607 s into a token of one year, so that value is
    refused here: `as-requested` asks for such tokens explicitly.
    """
    if value == "as-requested":
        return "as-requested"
    try:
        seconds = duration(value)
    except ValueError as err:
        raise ValueError(f"{err}, or as-requested") from None
    if not 600 <= seconds <= LONGEST_TOKEN_SECONDS or seconds % 1:
        raise ValueError(f"{value!r} is out of range; expected whole seconds from 10m on")
    if seconds == 3607:
        raise ValueError(
            "3607s is not allowed: API servers answer a request for 3607s with a token that is "
            "valid for one year. Set 1h, or as-requested if you want such tokens"
        )
    return int(seconds)


def _path_text(value: object) -> str:
    return text(str(value) if isinstance(value, Path) else value)


def file(value: object) -> Path:
    """A file that exists and is readable; `~` is expanded."""
    path = Path(_path_text(value)).expanduser()
    try:
        with path.open("rb"):
            return path
    except OSError as err:
        raise ValueError(f"{path} cannot be read: {err.strerror}") from None


def directory(value: object) -> Path:
    """A directory that exists or can be created; `~` is expanded."""
    path = Path(_path_text(value)).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is not a directory")
    return path


def existing_directory(value: object) -> Path:
    """A directory that exists; `~` is expanded."""
    path = directory(value)
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    return path


def certificates(value: object) -> Path:
    """A file with at least one PEM certificate and no private key.

    farlet copies its content into Secrets of the foreign cluster.
    """
    path = file(value)
    content = path.read_text(encoding="utf-8", errors="replace")
    if "-----BEGIN CERTIFICATE-----" not in content:
        raise ValueError(f"{path} contains no PEM certificate (-----BEGIN CERTIFICATE-----)")
    if "PRIVATE KEY-----" in content:
        raise ValueError(
            f"{path} contains a private key, which farlet would copy to the foreign cluster; "
            "remove it"
        )
    return path


def kubeconfig(value: object) -> Path | str:
    """The path of a kubeconfig, a list of paths as in `$KUBECONFIG`, or the word `in-cluster`."""
    if value == IN_CLUSTER:
        return IN_CLUSTER
    given = _path_text(value)
    for path in existing_kubeconfigs(given):
        file(path)
    return Path(os.pathsep.join(map(str, kubeconfig_paths(given))))


def kubeconfig_paths(kubeconfig: str) -> list[Path]:
    """The paths in a path or in a list of paths, as in `$KUBECONFIG`; `~` is expanded."""
    paths = [path for path in kubeconfig.split(os.pathsep) if path] or [kubeconfig]
    # `Path.expanduser` raises an error for a user who does not exist.
    return [Path(os.path.expanduser(path)) for path in paths]  # noqa: PTH111


def existing_kubeconfigs(kubeconfig: str) -> list[Path]:
    """The paths to read, as kubectl does it: a single file must exist, in a list one of them.

    Raises `ValueError` if no file of a list exists.
    """
    paths = kubeconfig_paths(kubeconfig)
    if len(paths) == 1:
        return paths  # reading it tells whether it exists
    existing = [path for path in paths if not _is_missing(path)]
    if not existing:
        raise ValueError(f"none of the files {kubeconfig} exists")
    return existing


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # reading it tells why not
    return False


def namespace_template(value: object) -> str:
    """A DNS label with `{namespace}` (required) and `{home}` in it, or `none`."""
    template = text(value)
    if template == "none":
        return template
    if "{namespace}" not in template:
        raise ValueError(
            f"{template!r} does not contain {{namespace}}: pods of all home namespaces would share "
            "one"
        )
    filled = template.replace("{namespace}", "n").replace("{home}", "h")
    if not _LABEL.fullmatch(filled):
        raise ValueError(
            f"{template!r} gives no valid namespace name: apart from {{namespace}} and {{home}} it "
            "may contain a-z, 0-9 and '-' only"
        )
    return template


def namespace_pair(value: object) -> tuple[str, str]:
    """`home=foreign`, two names of namespaces."""
    home, equals, foreign = text(value).partition("=")
    if not equals:
        raise ValueError(f"{value!r} is not valid; expected HOME=FOREIGN")
    return dns_label(home), dns_label(foreign)


def priority_class_pair(value: object) -> tuple[str, str]:
    """`home=foreign`, two names of PriorityClasses, or `*` for the first or `drop` for the last."""
    if isinstance(value, tuple):
        value = "=".join(map(str, value))
    home, equals, foreign = text(value).partition("=")
    if not equals:
        raise ValueError(f"{value!r} is not valid; expected HOME=FOREIGN or HOME=drop")
    return home if home == ANY else dns_name(home), dns_name(foreign)


def storage_class_pair(value: object) -> tuple[str, str]:
    """`home=foreign`, two names of StorageClasses."""
    home, equals, foreign = text(value).partition("=")
    if not equals:
        raise ValueError(f"{value!r} is not valid; expected HOME=FOREIGN")
    return dns_name(home), dns_name(foreign)


def several(value: object) -> tuple[object, ...]:
    """The elements of a list, of a repeated flag, or of a comma-separated string."""
    if isinstance(value, str):
        return tuple(part.strip() for part in text(value).split(","))
    if isinstance(value, dict):
        return tuple(f"{k}={v}" for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(
            part
            for element in value
            for part in (several(element) if isinstance(element, str) else (element,))
        )
    raise ValueError(f"{value!r} is not a list")
