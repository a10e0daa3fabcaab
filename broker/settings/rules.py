"""Contradictions between keys that each are right, explained in words [pure].

Duty: say what cannot work, what is dangerous and what is probably a slip.
Not its duty: the shape of single keys (``schema``); places (``load`` knows them).
Rules:

* a finding names the key that should change, why, and what to write instead;
* ``fatal`` findings keep the broker from starting: whatever would open a door, lose a
  value or never work. The rest is advice, said at each start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from urllib.parse import urlsplit

from broker.settings.domain import (
    AuthSettings,
    ClientSettings,
    ListenerSettings,
    Settings,
    StopSettings,
    VaultSettings,
)
from broker.settings.findings import Finding
from broker.settings.places import Path
from broker.settings.rules_access import access_rules, granted, has_policies
from broker.settings.rules_audit import audit_rules
from broker.settings.rules_credentials import credential_rules
from broker.settings.rules_limits import limit_rules
from broker.settings.rules_requests import proof_rules
from broker.settings.rules_rotation import lends, rotation_rules
from broker.settings.rules_tokens import token_rules
from broker.settings.units import Endpoint, endpoint, is_loopback

# sun_path of unix(7) holds 108 bytes with the closing zero.
_SOCKET_PATH = 107


def check(settings: Settings, *, uid: int | None, known: Collection[str] = ()) -> Iterator[Finding]:
    """Yield every finding.

    Args:
        settings: that fit the schema.
        uid: of the broker's process; None when another process will run it.
        known: names of credentials that are configured but have faults of their own, so
            that they are missing from ``settings``.
    """
    yield from _vault(settings.vault)
    yield from _auth(settings.vault.auth)
    yield from _listeners(settings.listeners, settings.clients)
    names = {*settings.credentials, *known}
    for client in settings.clients.values():
        yield from _client(client, settings.listeners, names, uid)
    for credential in settings.credentials.values():
        yield from credential_rules(credential)
        if credential.prove is not None:
            at = ("credentials", credential.name, "prove")
            yield from proof_rules(credential, credential.prove, at)
    yield from limit_rules(settings, names)
    yield from rotation_rules(settings, names)
    yield from access_rules(settings, names)
    yield from _lonely(settings, names)
    yield from audit_rules(settings)
    yield from token_rules(settings)
    yield from _stop(settings.stop)


def _vault(vault: VaultSettings) -> Iterator[Finding]:
    tls, at = vault.tls, ("vault", "tls")
    for number, address in enumerate((vault.address, *vault.redirect_addresses)):
        parts = urlsplit(address)
        if parts.scheme == "https" or is_loopback(parts):
            continue
        path: Path = (
            ("vault", "redirect_addresses", str(number - 1)) if number else ("vault", "address")
        )
        if tls.unsafe_plain_http:
            yield Finding(
                path,
                "sends tokens and secrets over the network in clear",
                "Use https:// as soon as Vault has a certificate.",
                fatal=False,
            )
        else:
            yield Finding(
                path,
                "would send tokens and secrets over the network in clear",
                "Use https://. For a test without TLS set vault.tls.unsafe_plain_http: true.",
            )
    if tls.unsafe_skip_verify:
        if tls.ca_file or tls.ca_path:
            yield Finding(
                (*at, "unsafe_skip_verify"),
                "switches off the verification that ca_file or ca_path asks for",
                "Remove unsafe_skip_verify: with the CA it is not needed.",
            )
        else:
            yield Finding(
                (*at, "unsafe_skip_verify"),
                "lets anybody on the way pose as Vault and take the service-account token",
                "Give Vault's CA in vault.tls.ca_file and remove unsafe_skip_verify.",
                fatal=False,
            )
    if tls.ca_file and tls.ca_path:
        yield Finding((*at, "ca_path"), "stands beside ca_file", "Keep one of the two.")
    if bool(tls.cert_file) != bool(tls.key_file):
        missing = "key_file" if tls.cert_file else "cert_file"
        yield Finding(
            (*at, "cert_file" if tls.cert_file else "key_file"),
            f"is half of a client certificate: {missing} is missing",
            f"Set vault.tls.{missing} too.",
        )
    if vault.timeout <= 0:
        yield Finding(("vault", "timeout"), "leaves no time for a request", "Write 10s.")


def _auth(auth: AuthSettings) -> Iterator[Finding]:
    at = ("vault", "auth")
    if auth.method == "kubernetes" and not auth.role:
        yield Finding(
            (*at, "role"),
            "is missing: Vault's kubernetes auth method logs in to a role",
            f"Set vault.auth.role to a role of the mount {auth.mount}.",
        )
    if auth.method == "token_file":
        for key, value in (("role", auth.role), ("audience", auth.audience)):
            if value:
                yield Finding(
                    (*at, key),
                    "has no meaning with method token_file: nobody logs in",
                    "Remove it, or set method: kubernetes.",
                )


def _listeners(
    listeners: ListenerSettings, clients: Mapping[str, ClientSettings]
) -> Iterator[Finding]:
    at = ("listeners",)
    if not listeners.unix and not listeners.tcp:
        yield Finding(
            (*at, "tcp"),
            "is empty and unix is false: nobody could call the broker",
            "Set listeners.unix: true, or name a loopback address.",
        )
    bound: list[tuple[Path, Endpoint]] = [
        ((*at, "tcp", str(n)), endpoint(text)) for n, text in enumerate(listeners.tcp)
    ]
    for path, one in bound:
        if not one.loopback:
            yield Finding(
                path,
                f"would hand out credentials beyond this pod, on {one.host}",
                "Use 127.0.0.1 or [::1]: only containers of this pod may call.",
            )
    if listeners.operations:
        bound.append(((*at, "operations"), endpoint(listeners.operations)))
    for (_, first), (clash, second) in combinations(bound, 2):
        if first.clashes(second):
            yield Finding(
                clash,
                f"needs port {second.port}, which another listener has",
                "Give each listener a port of its own.",
            )
    for key in ("socket_directory", "admin_socket"):
        text = getattr(listeners, key)
        if text and not text.startswith("/"):
            yield Finding((*at, key), "is no absolute path", "Write it from the root: /run/broker.")
    sockets: dict[Path, str] = {(*at, "admin_socket"): listeners.admin_socket}
    if listeners.unix:
        sockets |= {
            ("clients", name): f"{listeners.socket_directory}/{name}/broker.sock"
            for name in clients
        }
    for path, socket in sockets.items():
        if len(socket.encode()) > _SOCKET_PATH:
            yield Finding(
                path,
                f"makes a socket path of {len(socket.encode())} bytes; the system takes "
                f"{_SOCKET_PATH}",
                "Shorten listeners.socket_directory or the name.",
            )
    inside = listeners.socket_directory.rstrip("/") + "/"
    if listeners.admin_socket.startswith(inside):
        yield Finding(
            (*at, "admin_socket"),
            "lies where clients' directories are, so a client could reach it",
            "Put it in a directory that no other container mounts: /run/broker-admin/admin.sock.",
        )


def _client(
    client: ClientSettings, listeners: ListenerSettings, names: Collection[str], uid: int | None
) -> Iterator[Finding]:
    at = ("clients", client.name)
    if client.proof == "token":
        if client.uid is not None:
            yield Finding(
                (*at, "uid"),
                "has no effect: the proof is the token alone",
                "Set proof: token_and_uid, or remove uid.",
                fatal=False,
            )
    else:
        if client.uid is None:
            yield Finding(
                (*at, "uid"),
                f"is missing: proof {client.proof} compares it",
                "Set it to runAsUser of the client's container, or use proof: token.",
            )
        elif client.uid == uid:
            yield Finding(
                (*at, "uid"),
                "is the broker's own uid, so it proves nothing",
                "Give the client's container another runAsUser, or use proof: token.",
            )
        if not listeners.unix:
            yield Finding(
                (*at, "proof"),
                f"{client.proof} needs a Unix socket, and listeners.unix is false",
                "Set listeners.unix: true, or use proof: token.",
            )
    for number, name in enumerate(client.credentials):
        if name not in names:
            yield Finding(
                (*at, "credentials", str(number)),
                f"lists {name}, which is not configured",
                f"Add credentials.{name}, or correct the name.",
            )
        elif name in client.credentials[:number]:
            yield Finding(
                (*at, "credentials", str(number)), f"lists {name} twice", "Keep one.", fatal=False
            )


def _lonely(settings: Settings, names: Collection[str]) -> Iterator[Finding]:
    """What nobody can use: probably a slip, but nothing opens by it."""
    if not names:
        yield Finding(
            ("credentials",), "has no credential", "Add what the broker shall hold.", fatal=False
        )
    if has_policies(settings):
        return  # who may have what is more than lists tell
    allowed = granted(settings) | lends(settings)
    for name in settings.credentials:
        if name not in allowed:
            yield Finding(
                ("credentials", name),
                "is fetched, but no client may have it",
                f"List {name} under a client's credentials, or remove it.",
                fatal=False,
            )
    for client in settings.clients.values():
        if not client.credentials:
            yield Finding(
                ("clients", client.name),
                "may have no credential",
                "List what it may have under its credentials.",
                fatal=False,
            )


def _stop(stop: StopSettings) -> Iterator[Finding]:
    if stop.delay >= stop.timeout:
        yield Finding(
            ("stop", "delay"),
            "leaves no time to stop: it is not shorter than stop.timeout",
            "Make stop.timeout longer than stop.delay by the time that closing takes.",
        )
