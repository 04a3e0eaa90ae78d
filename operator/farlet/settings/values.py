"""What one value of a setting may look like: hosts, ports, names, addresses, files.

Each function takes what came from a flag, the environment or the file, and returns the value as
farlet keeps it, or raises `ValueError` whose text says what is allowed. Which setting was meant
is not known here; `settings.py` adds that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")

IN_CLUSTER = "in-cluster"
"""Stands where a kubeconfig may: the ServiceAccount of the pod that farlet runs in."""

LONGEST_TOKEN_SECONDS = 1 << 32
"""`ValidateTokenRequest` in `pkg/apis/authentication/validation` refuses longer ones."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. An empty `host` means all interfaces, IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def text(value: object) -> str:
    """A string with something in it. An empty one is never read as "not set"."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")
    if not value.strip():
        raise ValueError("is empty; leave the setting out or give it a value")
    if value != value.strip():
        raise ValueError(f"{value!r} begins or ends with white space")
    return value


def dns_label(value: object) -> str:
    """Name of a namespace, or part of one (RFC 1123 label)."""
    name = text(value)
    if not _LABEL.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a DNS label: up to 63 of a-z, 0-9 and '-', "
            "beginning and ending with a letter or digit"
        )
    return name


def dns_name(value: object) -> str:
    """A domain or an object name (RFC 1123 subdomain)."""
    name = text(value)
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a DNS name: up to 253 of a-z, 0-9, '-' and '.', "
            "each part beginning and ending with a letter or digit"
        )
    return name


def ip(value: object) -> str:
    """An IPv4 or IPv6 address in its canonical spelling, without zone."""
    address = text(value)
    try:
        parsed = ip_address(address)
    except ValueError:
        raise ValueError(f"{address!r} is not an IP address") from None
    if "%" in address:
        raise ValueError(f"{address!r} has a zone id, which means nothing on another machine")
    return str(parsed)


def host(value: object) -> str:
    """An IP address (IPv6 bare or in brackets; returned bare) or a DNS name, and nothing else."""
    allowed = "give only an IPv4 address, an IPv6 address or a DNS name"
    name = text(value)
    if "://" in name or "/" in name:
        raise ValueError(f"{name!r} is a URL; {allowed}")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if ":" in bare or bare != name:
        if "%" in bare:
            raise ValueError(f"{name!r} has a zone id, which means nothing in a pod; {allowed}")
        try:
            parsed = ip_address(bare)
        except ValueError:
            if re.fullmatch(r"[^:]+:\d+|\[.*\]:\d+", name):
                raise ValueError(
                    f"{name!r} has a port; {allowed}, and the port by --home-api-server-port"
                ) from None
            raise ValueError(f"{name!r} is no IPv6 address; {allowed}") from None
        if parsed.version != 6:
            raise ValueError(f"{name!r} puts an IPv4 address into brackets; {allowed}")
        return str(parsed)
    if re.fullmatch(r"[0-9.]+", bare):
        try:
            return str(ip_address(bare))
        except ValueError:
            raise ValueError(f"{name!r} is no IPv4 address; {allowed}") from None
    if len(bare) > 253 or not _SUBDOMAIN.fullmatch(bare.lower()):
        raise ValueError(f"{name!r} is no host; {allowed}")
    return bare.lower()


def integer(value: object, *, low: int, high: int) -> int:
    """A whole number between two bounds, both allowed."""
    wanted = f"give a whole number from {low} to {high}"
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,20}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no whole number; {wanted}")
    if not low <= value <= high:
        raise ValueError(f"{value} is out of range; {wanted}")
    return value


def switch(value: object) -> bool:
    """`true` or `false`."""
    if isinstance(value, bool):
        return value
    given = text(value)
    if given not in {"true", "false"}:
        raise ValueError(f"{given!r} is neither true nor false")
    return given == "true"


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")


def duration(value: object) -> float:
    """Seconds, from a number of them or from what Kubernetes' own flags take: `15s`, `1m30s`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    given = text(value)
    if re.fullmatch(r"\d+(\.\d+)?", given):
        return float(given)
    if not re.fullmatch(rf"({_PART.pattern})+", given):
        raise ValueError(f"{given!r} is no duration; give seconds, or units as in 15s or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(given))


def bind_address(value: object) -> Address | None:
    """`host:port`, `:port` for all interfaces, or `0` for "do not listen" (`None`).

    Port 0 in `host:0` lets the system choose one.
    """
    if isinstance(value, Address):
        return value
    if value in {0, "0"} and not isinstance(value, bool):
        return None
    given = text(value)
    name, colon, number = given.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", number) or int(number) > 65535:
        raise ValueError(
            f"{given!r} is no address to listen on; give HOST:PORT, :PORT for all interfaces, "
            "or 0 to turn it off"
        )
    return Address(host(name) if name else "", int(number))


def listening_address(value: object) -> Address:
    """`host:port`, or `:port` for all interfaces."""
    address = bind_address(value)
    if address is None:
        raise ValueError("0 turns nothing off here; give HOST:PORT, or :PORT for all interfaces")
    return address


def token_lifetime(value: object) -> int | str:
    """Seconds, or `as-requested`.

    An API server turns a request of exactly 3607 s into a token of one year, so that number is
    refused here: `as-requested` is the open way to such tokens.
    """
    if value == "as-requested":
        return "as-requested"
    try:
        seconds = integer(value, low=600, high=LONGEST_TOKEN_SECONDS)
    except ValueError as err:
        raise ValueError(f"{err} (seconds), or as-requested") from None
    if seconds == 3607:
        raise ValueError(
            "3607 is the one number that API servers turn into a token of a year; "
            "give 3600, or as-requested if long tokens are wanted"
        )
    return seconds


def file(value: object) -> Path:
    """A file that exists and can be read; `~` is expanded."""
    path = Path(text(str(value) if isinstance(value, Path) else value)).expanduser()
    try:
        with path.open("rb"):
            return path
    except OSError as err:
        raise ValueError(f"{path} cannot be read: {err.strerror}") from None


def folder(value: object) -> Path:
    """A folder, or one that can still be made; `~` is expanded."""
    path = Path(text(str(value) if isinstance(value, Path) else value)).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is no folder")
    return path


def present_folder(value: object) -> Path:
    """A folder that exists; `~` is expanded."""
    path = folder(value)
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    return path


def certificates(value: object) -> Path:
    """A file with at least one PEM certificate and no private key.

    Its content goes into Secrets of the foreign cluster, so a key in it would travel.
    """
    path = file(value)
    content = path.read_text(encoding="utf-8", errors="replace")
    if "-----BEGIN CERTIFICATE-----" not in content:
        raise ValueError(f"{path} holds no PEM certificate (-----BEGIN CERTIFICATE-----)")
    if "PRIVATE KEY-----" in content:
        raise ValueError(f"{path} holds a private key, which would be sent abroad; take it out")
    return path


def kubeconfig(value: object) -> Path | str:
    """The path of a kubeconfig, or the word `in-cluster`."""
    return IN_CLUSTER if value == IN_CLUSTER else file(value)


def namespace_template(value: object) -> str:
    """`{namespace}` (needed) and `{home}` within a DNS label, or `none`."""
    template = text(value)
    if template == "none":
        return template
    if "{namespace}" not in template:
        raise ValueError(
            f"{template!r} lacks {{namespace}}: pods of different home namespaces would meet in one"
        )
    filled = template.replace("{namespace}", "n").replace("{home}", "h")
    if not _LABEL.fullmatch(filled):
        raise ValueError(
            f"{template!r} does not make a namespace name: beside {{namespace}} and {{home}} only "
            "a-z, 0-9 and '-' may stand in it"
        )
    return template


def namespace_pair(value: object) -> tuple[str, str]:
    """`home=foreign`, both names of namespaces."""
    home, equals, foreign = text(value).partition("=")
    if not equals:
        raise ValueError(f"{value!r} is no pair; give HOME=FOREIGN")
    return dns_label(home), dns_label(foreign)


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
    raise ValueError(f"{value!r} is no list")
