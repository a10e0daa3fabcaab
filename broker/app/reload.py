"""Applies a changed configuration to the running broker.

Duty: notice a change (SIGHUP, or the content hash of the file and its policy files: nobody
sends signals in Kubernetes, and a ConfigMap volume swaps a link); apply what can be; say
what cannot.
Not its duty: comparing (``settings.diff``), reading (``settings.load``).
Rules:

* a bad file changes nothing and says so once; the last good configuration stays;
* files that changed while they were read are read again: no mixture of two is ever applied;
* what needs a restart is named by its key and waits for one;
* each change is in the audit, applied or refused, by the names of its keys;
* SIGHUP also opens the audit file anew and reads the TLS files again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from broker.access.authorizer import Authorizer
from broker.app import policies, translate
from broker.app.build import Broker
from broker.app.proofs import proofs
from broker.errors import AuditUnavailable, SettingsError
from broker.settings.diff import Difference, diff
from broker.settings.domain import Settings
from broker.settings.load import digest, load, policy_paths
from broker.telemetry import logs

log = logging.getLogger("broker.app")

POLL: Final = 10.0
"""Seconds between two looks at the file: far below the kubelet's own delay of a minute."""


class Reload:
    """Watches one file for one broker."""

    def __init__(
        self,
        broker: Broker,
        path: str,
        digest: str,
        *,
        environ: Mapping[str, str],
        own_uid: int,
        narrow: Callable[[Settings], Settings] = lambda settings: settings,
    ) -> None:
        self._broker, self._path, self._environ, self._uid = broker, path, environ, own_uid
        self._narrow = narrow
        self._policy_paths = tuple(Path(one.path) for one in broker.settings.policies.texts)
        self._digest = digest or self._read_digest()
        self._asked = asyncio.Event()

    def request(self) -> None:
        """Somebody sent SIGHUP."""
        self._asked.set()

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            asked = await self._broker.clock.wait(self._asked, self._broker.clock.now() + POLL)
            self._asked.clear()
            if asked:
                self._reopen()
            if not await self.look() and asked:
                log.info("told to reload: the configuration is the same")

    async def look(self) -> bool:
        """Apply the files when they have changed; returns whether they have."""
        if self._read_digest() == self._digest:
            return False
        # Before they are loaded: what changes meanwhile is another change.
        self._policy_paths = await asyncio.to_thread(self._read_policy_paths)
        self._digest = self._read_digest()
        await self._reload()
        return True

    def _read_digest(self) -> str:
        try:
            content = Path(self._path).read_bytes()
        except OSError:
            return ""
        return digest(content, map(_content, self._policy_paths))

    def _read_policy_paths(self) -> tuple[Path, ...]:
        """Of the file as it is now, usable or not: what is missing yet is waited for."""
        try:
            return policy_paths(self._path, Path(self._path).read_bytes())
        except OSError:
            return self._policy_paths

    def _reopen(self) -> None:
        try:
            self._broker.audit.reopen()
        except AuditUnavailable as error:
            log.error("the audit file stays as it was: %s", error)

    async def _reload(self) -> None:
        try:
            # In a thread: a file of a thousand credentials takes longer than the loop may wait.
            loaded = await asyncio.to_thread(load, self._path, self._environ, uid=self._uid)
            settings = self._narrow(loaded.settings)
            difference = diff(self._broker.settings, settings)
            authorizer = await asyncio.to_thread(self._authorizer, difference.effective, settings)
        except SettingsError as errors:
            log.error(
                "the changed configuration cannot be used, the last good one stays: %s", errors
            )
            self._broker.trail.configured("refused", digest=self._digest, reason=errors.code)
            return
        except Exception as error:  # nothing was applied yet, so nothing need end
            log.exception("the changed configuration cannot be read, the last good one stays")
            self._broker.trail.configured(
                "refused", digest=self._digest, reason=type(error).__name__
            )
            return
        if self._read_digest() != loaded.digest:
            # A volume swaps all its files at once, but they are read one by one.
            log.info("the configuration changed while it was read, and is read again")
            self._digest = loaded.digest
            return
        for one in (*loaded.advice, *policies.remarks(settings, loaded.place)):
            log.warning("%s. %s", one, one.remedy)
        for key in difference.restart:
            log.warning("needs a restart: %s", key)
        if difference.hot:
            await self._apply(difference, authorizer)
            log.info("configuration applied: %s", ", ".join(difference.hot))
        else:
            # Clients that come and go are no hot key, and policies may be about everybody.
            self._broker.authorizer.use(authorizer)
        self._broker.trail.configured(
            "applied", digest=self._digest, keys=difference.hot, restart=difference.restart
        )

    def _authorizer(self, effective: Settings, settings: Settings) -> Authorizer:
        """What decides from now on; compiled in a thread.

        Raises:
            SettingsErrors: the policies have faults.
        """
        # Who is gone from the file is nobody to policies, for some permit whoever asks.
        staying = {name: one for name, one in effective.clients.items() if name in settings.clients}
        effective = replace(effective, clients=staying)
        compiled = policies.compiled(
            effective,
            file=self._path,
            service_account=self._broker.service_account,
            callers=settings.clients,
        )
        return policies.authorizer(effective, compiled, self._broker.clock)

    async def _apply(self, difference: Difference, authorizer: Authorizer) -> None:
        broker, settings = self._broker, difference.effective
        specs = translate.credentials(settings)
        clients = translate.clients(settings)
        broker.settings = settings
        broker.metrics.reconfigure(specs, settings.clients)
        broker.callers.configure(clients)
        broker.authorizer.use(authorizer)
        broker.limits.configure(
            translate.limit_rules(settings.limits), translate.default_limit(settings.limits)
        )
        broker.failures.configure(translate.failed_authentications(settings.limits))
        if broker.tokens is not None:
            broker.tokens.configure(settings)
        broker.service.reconfigure(specs)
        broker.health.configure({name: spec.required for name, spec in specs.items()})
        broker.fast.configure(specs)
        broker.audit.configure(settings.audit.on_failure)
        await broker.keepers.reconfigure(
            specs.values(), proofs=proofs(settings, broker.clock, broker.masking.met)
        )
        if any(key.startswith("log.") for key in difference.hot):
            logs.configure(
                settings.log.level,
                settings.log.format,
                broker.redactor,
                dropped=broker.metrics.logs_dropped,
            )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        return b"\0" + str(error.errno).encode()  # as no policy file begins
