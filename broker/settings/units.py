"""The texts people write for durations, addresses and names [pure].

Duty: read each kind of text, or say in words what is wrong with it.
Not its duty: which key holds which kind (``schema``).
Rules:

* a fault is a ``Misfit`` with a sentence and a remedy; neither repeats the text, for
  somebody may have put a secret in its place (numbers and hosts are repeated);
* a duration always carries its unit: ``30`` alone was meant in seconds by one reader
  and in minutes by the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

DURATION: Final = r"^(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?([0-9]+ms)?$"
NAME: Final = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
FIELD: Final = r"^[A-Za-z0-9_.-]{1,64}$"
HEADER: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
"""A ``token`` of RFC 9110 section 5.6.2, which names of headers and cookies are."""
DAY_TIME: Final = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
TOOL_GLOB: Final = r"^[^\x00-\x1f\x7f?]{1,128}$"
POINTER: Final = r"^(/([^~/]|~[01])*)*$"
"""A JSON pointer: empty for the whole, else ``/`` before each step (RFC 6901 section 3)."""

_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAPPED: Final = 96
"""Bits before the IPv4 address in an IPv6 address that holds one."""
_LONGEST: Final = 10 * 365 * 86400.0
# Ten years. A longer one is a slip, and every timer and date still copes with it.


class Misfit(ValueError):
    """A text that is not what its key needs; never holds the text itself."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message, self.remedy = message, remedy


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IP address and a port to listen on."""

    host: str
    port: int
    loopback: bool
    wildcard: bool
    """All addresses of the machine."""

    def clashes(self, other: Endpoint) -> bool:
        """Whether both cannot listen at once. Port 0 is any free one."""
        same_host = self.host == other.host or self.wildcard or other.wildcard
        return self.port != 0 and self.port == other.port and same_host


def seconds(text: str) -> float:
    """Read ``30s``, ``15m``, ``1h30m``, ``250ms``, ``7d``.

    Raises:
        Misfit: no such duration, no unit, or longer than ten years.
    """
    if not re.fullmatch(DURATION, text):
        if re.fullmatch(r"[+-]?[0-9.]+", text):
            raise unitless(text)
        raise Misfit(
            "is not a duration",
            "Write a number and its unit, largest first: 250ms, 30s, 15m, 1h30m, 7d.",
        )
    total = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if total > _LONGEST:
        raise Misfit("is longer than ten years", "Write a shorter duration.")
    return total


def unitless(number: object) -> Misfit:
    """The fault of a bare number where a duration belongs."""
    return Misfit(
        f"has the wrong unit: {number} alone could mean anything",
        f"Write the unit: {number}s for seconds, or ms, m, h, d.",
    )


def endpoint(text: str) -> Endpoint:
    """Read ``127.0.0.1:8210`` or ``[::1]:8210``; a name is refused, for it may move.

    Raises:
        Misfit: not an IP address and port.
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", text)
    how = "Write an IP address and a port: 127.0.0.1:8210, or [::1]:8210."
    if match is None:
        raise Misfit("is not an IP address with a port", how)
    port = int(match[3])
    try:
        address = ip_address(match[1] or match[2])
    except ValueError:
        raise Misfit("is not an IP address with a port", how) from None
    if isinstance(address, IPv6Address) != (match[1] is not None):
        raise Misfit("is not an IP address with a port", how)
    if port > 65535:
        raise Misfit(f"has no such port: {port}", "Use a port from 1 to 65535.")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return Endpoint(
        host=address.compressed,
        port=port,
        loopback=(mapped or address).is_loopback,
        wildcard=address.is_unspecified,
    )


def origin(text: str) -> SplitResult:
    """Read an origin: scheme, host and perhaps a port (RFC 6454), lower case, nothing after.

    Raises:
        Misfit: no http or https origin.
    """
    how = "Write scheme and host, and a port when it is not the usual one: https://api.example."
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Misfit("is not an origin", how) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise Misfit("is not an origin", how)
    if "@" in parts.netloc:
        raise Misfit("holds a user or password before the host", how)
    if parts.path not in {"", "/"} or "?" in text or "#" in text:
        raise Misfit("is an origin with something after the host", how)
    if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", parts.hostname):
        raise Misfit("has no usable host", how)
    return parts._replace(netloc=parts.netloc.lower(), path="")


def is_loopback(parts: SplitResult) -> bool:
    """Whether an origin leads to this machine only."""
    host = parts.hostname or ""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def vault_path(text: str) -> str:
    """Read a mount or a path in Vault, without slashes at its ends.

    Raises:
        Misfit: empty, or with parts that an HTTP client or Vault would rewrite.
    """
    path = text.strip("/")
    if not path:
        raise Misfit("is empty", "Write it as Vault does, without a leading slash: secret.")
    if path.startswith("v1/"):
        raise Misfit("starts with v1/", "Leave the API's v1/ out: the broker adds it.")
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or re.search(r"[\x00-\x20\x7f?#%\\]", path):
        raise Misfit(
            "is not a path of Vault",
            "Write names joined by single slashes, without spaces, '..', '?', '#' or '%'.",
        )
    return path


def minutes(text: str) -> int:
    """Read ``08:30`` as a minute of the day."""
    hours, _, rest = text.partition(":")
    return int(hours) * 60 + int(rest)


def network(text: str) -> str:
    """Read ``10.0.0.0/8`` or ``fd00::/8``; an address alone is a network of one.

    Raises:
        Misfit: no network, one with bits set behind its prefix, or one that no peer is in.
    """
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        raise Misfit("is not a network", "Write address and prefix: 10.0.0.0/8.") from None
    try:
        found = ip_network(text)
    except ValueError:
        raise Misfit(
            f"has bits set behind its prefix of {loose.prefixlen}",
            f"Write {loose}, or a longer prefix.",
        ) from None
    if isinstance(found, IPv6Network):
        if found.network_address.scope_id is not None:
            raise Misfit(
                "names the zone of an address, which no peer's has here",
                f"Write {str(found).partition('%')[0]}/{found.prefixlen}.",
            )
        mapped = found.network_address.ipv4_mapped
        if mapped is not None and found.prefixlen >= _MAPPED:
            # Peers are compared without it.
            raise Misfit("is IPv4 within IPv6", f"Write {mapped}/{found.prefixlen - _MAPPED}.")
    return str(found)  # Cedar knows one spelling: no netmask, no leading zero


def path_glob(text: str) -> str:
    """Read a glob of paths in Vault: ``secret/mcp/*``, ``secret/**``.

    Raises:
        Misfit: not such a glob.
    """
    how = "Write the path as in Vault, mount included: secret/mcp/*, or secret/**."
    parts = text.split("/")
    if any(part in {"", ".", ".."} for part in parts) or re.search(r"[\x00-\x20\x7f?#%\\]", text):
        raise Misfit("is not a glob of paths", how)
    if any("**" in part and part != "**" for part in parts):
        raise Misfit("has ** within a component", "Let ** stand alone between two slashes.")
    return text
