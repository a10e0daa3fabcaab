"""The printed Vault policy is enough on a real server, and none of it is too much."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from random import Random, SystemRandom
from secrets import token_bytes
from typing import Any

import pytest

from broker.access.tokens.documents import TokenDocuments
from broker.access.tokens.model import Target
from broker.app import translate_rotation
from broker.app.vault_policy import Rule, hcl, rules
from broker.clock import SystemClock
from broker.credentials.model import CredentialKey
from broker.demo.openbao import OpenBao
from broker.demo.postgres import Postgres
from broker.errors import VaultDenied
from broker.rotation.drivers.generated import GeneratedDriver, KeyForm
from broker.rotation.drivers.port import Driver
from broker.rotation.drivers.vault_role import VaultRoleDriver
from broker.rotation.footing import Deps
from broker.rotation.model import KvPath, Phase, Policy
from broker.rotation.ports import Standing, StepTaken
from broker.rotation.rotator import Rotator
from broker.rotation.state import Documents
from broker.secret import SecretValue
from broker.settings.domain import Settings
from broker.settings.processes import Process, held, rotates
from broker.vault.client import VaultClient
from tests.conftest import KubernetesAuth
from tests.simulators.provider import ProviderDriver, ProviderSimulator
from tests.simulators.session import FixedSession
from tests.unit.test_settings_load import read

pytestmark = pytest.mark.real

CLOCK = SystemClock()
FILE = """
vault: {address: https://vault.example, auth: {role: r}}
tokens: {store: shared, mount: secret, path: PLACE/tokens}
rotation: {mode: MODE, installation: here, state: {mount: secret, prefix: PLACE}}
clients: {c: {credentials: [key, old, orders, service, reports]}}
credentials:
  key:
    source: {kind: kv, mount: secret, path: PLACE/key}
    use: {name: x-api-key, field: api_key, origins: ['https://api.example']}
    rotation:
      driver:
        kind: http
        auth: admin
        create:
          method: POST
          url: https://api.example/keys
          body: {name: "{label}"}
          answer: {fields: {api_key: /key}, id: /id}
        retire: {method: DELETE, url: 'https://api.example/keys/{id}'}
      orphans: accepted
  service:
    source: {kind: kv, mount: secret, path: PLACE/service}
    rotation: {driver: {kind: generated, mount: secret, path: PLACE/accepted, field: api_key}}
  reports:
    source: {kind: static_role, path: database/static-creds/policy}
    rotation: {driver: {kind: vault_role}}
  admin:
    source: {kind: kv, mount: secret, path: PLACE/admin}
    use: {scheme: bearer, field: token, origins: ['https://api.example']}
  old: {source: {kind: kv, mount: kv1, path: PLACE/old, version: 1}}
  orders: {source: {kind: leased, path: database/creds/orders}}
"""
CASES = [("off", "broker"), ("rotator", "broker"), ("sidecar", "broker"), ("rotator", "rotator")]
POLICY = Policy(
    max_age=None, settle=0.0, overlap=0.0, retry=0.05, retry_cap=0.05, watch=0.05, sweep_every=3600
)
PATIENCE = 30.0
AT_ONCE = 6
"""Lives at the same time: most of one is waiting."""


class Watch:
    """Sees what the rotator tells; ends the wait at a denial."""

    def __init__(self) -> None:
        self.denied = asyncio.Event()
        self.changed = asyncio.Event()

    def took(self, step: StepTaken) -> None:
        self.changed.set()

    def stands(self, standing: Standing) -> None:
        if standing.problem == VaultDenied.code:
            self.denied.set()
        self.changed.set()

    def announce(self, key: CredentialKey) -> None:
        """Nobody reads here."""


class Place:
    """A role whose tokens have one policy and nothing else, and everything the file names."""

    def __init__(self, name: str, openbao: OpenBao, auth: KubernetesAuth) -> None:
        self.name, self._admin, self._auth = name, openbao.admin, auth
        self.port = VaultClient(openbao.address, clock=CLOCK, timeout=30.0)
        self._jwt = auth.token()
        self._ids = count(1)
        self._admin.kubernetes_role(
            name,
            service_account=auth.service_account,
            namespace=auth.namespace,
            audience=auth.audience,
            policies=[name],
            token_no_default_policy=True,
            token_ttl="10m",
        )
        self._admin.kv_write("kv1", f"{name}/old", {"api_key": "x"}, version=1)
        self._admin.kv_write("secret", f"{name}/admin", {"token": "x"})

    async def live(self, settings: Settings, process: Process, policy: tuple[Rule, ...]) -> bool:
        """Everything a process asks of Vault in its life, with this policy alone.

        Returns:
            Whether all was allowed.
        """
        self._admin.policy(self.name, hcl(policy))
        if not rotates(settings, process):  # else the rotation makes the first key
            for name in ("key", "service"):
                self._admin.kv_write("secret", f"{self.name}/{name}", {"api_key": "x"})
        grant = await self.port.login_kubernetes(
            mount=self._auth.mount, role=self.name, jwt=self._jwt
        )
        token = grant.token
        assert set(grant.policies) == {self.name}
        allowed = True
        try:
            await self.port.lookup_self(token)
            await self.port.renew_self(token)
            if rotates(settings, process):
                await self._rotate(settings, token)
            for name in held(settings, process):
                await self._refresh(settings, name, token)
            if process == "broker":
                await self._share_tokens(settings, token)
            await self.port.revoke_self(token)
        except* VaultDenied:
            allowed = False
        return allowed

    async def _share_tokens(self, settings: Settings, token: SecretValue) -> None:
        """What replicas that mint and revoke ask: the first of them, and one that comes later."""
        for first in (True, False):
            documents = TokenDocuments(
                clock=CLOCK,
                vault=self.port,
                session=FixedSession(token),
                mount=settings.tokens.mount,
                path=settings.tokens.path,
                random_bytes=token_bytes,
            )
            await documents.keys()
            loaded = await documents.load(None)
            assert (loaded.version == 0) is first
            target = Target("id", "any"), CLOCK.wall() + 60
            changed = loaded.revocations.with_targets([target], CLOCK.wall())
            await documents.store(changed, loaded.version)

    async def _refresh(self, settings: Settings, name: str, token: SecretValue) -> None:
        source = settings.credentials[name].source
        if source.kind == "kv":
            await self.port.kv_read(
                token, mount=source.mount, path=source.path, kv_version=source.kv_version
            )
            return
        lease = await self.port.lease(token, path=source.path, method=source.method)
        if source.kind == "leased":
            await self.port.renew_lease(token, lease.lease_id)
            await self.port.revoke_lease(token, lease.lease_id)

    async def _rotate(self, settings: Settings, token: SecretValue) -> None:
        """The rotator makes each first key, and replaces it because it is compromised.

        Raises:
            VaultDenied: a rotation was held up by the policy.
        """
        session, watch = FixedSession(token), Watch()
        drivers: dict[str, Driver] = {
            "key": ProviderDriver(ProviderSimulator(CLOCK)),
            "service": GeneratedDriver(
                KeyForm("api_key"),
                KvPath("secret", f"{self.name}/accepted"),
                publish="sha256",
                vault=self.port,
                session=session,
                clock=CLOCK,
                rng=SystemRandom(),
                proof=None,
            ),
            "reports": VaultRoleDriver(
                "database/rotate-role/policy", vault=self.port, session=session, clock=CLOCK
            ),
        }
        specs = translate_rotation.specs(settings)
        rotator = Rotator(
            [(replace(spec, policy=POLICY), drivers[name]) for name, spec in specs.items()],
            Deps(
                clock=CLOCK,
                documents=Documents(clock=CLOCK, vault=self.port, session=session),
                readership=watch,
                observer=watch,
                rng=Random(1),
                installation="here",
                owner=f"process-{next(self._ids)}",
                new_id=lambda: f"r{next(self._ids)}",
            ),
        )
        running = asyncio.create_task(rotator.run())
        try:
            await self._settled(rotator, watch)
            work = asyncio.create_task(self._compromise(rotator, list(specs)))
            denied = asyncio.create_task(watch.denied.wait())
            await asyncio.wait({work, denied}, return_when=asyncio.FIRST_COMPLETED)
            denied.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
                raise VaultDenied
            await work
            await self._settled(rotator, watch)
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def _compromise(self, rotator: Rotator, names: list[str]) -> None:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(rotator.request(name, actor="t", compromised=True))

    async def _settled(self, rotator: Rotator, watch: Watch) -> None:
        """Until nothing is under way and no staged value is left."""
        deadline = CLOCK.now() + PATIENCE
        sagas = [loop.saga for loop in rotator._loops.values()]
        while not all(
            saga.state.phase is Phase.IDLE and saga.state.past and not saga.state.staged
            for saga in sagas
        ):
            if watch.denied.is_set():
                raise VaultDenied
            watch.changed.clear()
            assert await CLOCK.wait(watch.changed, min(deadline, CLOCK.now() + 0.1)) or (
                CLOCK.now() < deadline
            )


def without(policy: tuple[Rule, ...], number: int, capability: str) -> tuple[Rule, ...]:
    """The policy without one capability of one line, and without the line if that was all."""
    left = tuple(each for each in policy[number].capabilities if each != capability)
    kept = (replace(policy[number], capabilities=left),) if left else ()
    return (*policy[:number], *kept, *policy[number + 1 :])


@pytest.fixture
def static_role(openbao: OpenBao, postgres: Postgres, orders_database: str) -> None:
    """A database user whose password Vault replaces."""
    with postgres.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS policy")
        connection.execute("CREATE ROLE policy LOGIN")
    role = {"db_name": "shop", "username": "policy", "rotation_period": "1h"}
    openbao.admin.request("POST", "database/static-roles/policy", role)


@pytest.mark.parametrize(("mode", "process"), CASES)
@pytest.mark.usefixtures("static_role")
async def test_the_printed_policy_is_enough_and_none_of_it_too_much(
    mode: str, process: Process, openbao: OpenBao, kubernetes_auth: KubernetesAuth
) -> None:
    """With it alone everything works; without any one capability something is denied."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def allowed(name: str, *less: Any) -> bool:
        settings = read(FILE.replace("MODE", mode).replace("PLACE", name)).settings
        policy = rules(settings, process)
        async with slots:
            place = Place(name, openbao, kubernetes_auth)
            try:
                return await place.live(
                    settings, process, without(policy, *less) if less else policy
                )
            finally:
                await place.port.aclose()

    stem = f"policy-{mode}-{process}"
    assert await allowed(stem)

    printed = rules(read(FILE.replace("MODE", mode)).settings, process)
    lines = [(number, each) for number, rule in enumerate(printed) for each in rule.capabilities]
    verdicts = await asyncio.gather(
        *(allowed(f"{stem}-{place}", *line) for place, line in enumerate(lines))
    )
    unneeded = [
        f"{each} of {printed[number].path}"
        for (number, each), verdict in zip(lines, verdicts, strict=True)
        if verdict
    ]
    assert unneeded == []
