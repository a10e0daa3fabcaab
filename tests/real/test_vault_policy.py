"""The printed Vault policy is enough on a real server, and none of it is too much."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from random import SystemRandom

import pytest

from broker.app.vault_policy import Rule, hcl, rules
from broker.clock import SystemClock
from broker.demo.openbao import OpenBao
from broker.errors import VaultDenied
from broker.rotation.drivers.generated import GeneratedDriver, KeyForm
from broker.rotation.model import KvPath, Label
from broker.secret import SecretValue
from broker.settings.domain import Settings
from broker.settings.processes import Process, held, rotates
from broker.vault.client import VaultClient
from tests.conftest import KubernetesAuth
from tests.simulators.session import FixedSession
from tests.unit.test_settings_load import read

pytestmark = pytest.mark.real

CLOCK = SystemClock()
FILE = """
vault: {address: https://vault.example, auth: {role: r}}
rotation: {mode: MODE, installation: here, state: {mount: secret, prefix: policy}}
clients: {c: {credentials: [key, old, orders, service]}}
credentials:
  key:
    source: {kind: kv, mount: secret, path: policy/key}
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
    source: {kind: kv, mount: secret, path: policy/service}
    rotation: {driver: {kind: generated, mount: secret, path: policy/accepted, field: api_key}}
  admin:
    source: {kind: kv, mount: secret, path: policy/admin}
    use: {scheme: bearer, field: token, origins: ['https://api.example']}
  old: {source: {kind: kv, mount: kv1, path: policy/old, version: 1}}
  orders: {source: {kind: leased, path: database/creds/orders}}
"""
CASES = [("off", "broker"), ("rotator", "broker"), ("sidecar", "broker"), ("rotator", "rotator")]


class Place:
    """A role whose tokens have one policy and nothing else, and everything the file names."""

    def __init__(self, openbao: OpenBao, auth: KubernetesAuth) -> None:
        self._admin, self._auth = openbao.admin, auth
        self.port = VaultClient(openbao.address, clock=CLOCK, timeout=10.0)
        self._jwt = auth.token()
        self._admin.kubernetes_role(
            "least",
            service_account=auth.service_account,
            namespace=auth.namespace,
            audience=auth.audience,
            policies=["least"],
            token_no_default_policy=True,
            token_ttl="10m",
        )
        self._admin.kv_write("kv1", "policy/old", {"api_key": "x"}, version=1)
        self._admin.kv_write("secret", "policy/admin", {"token": "x"})

    async def live(self, settings: Settings, process: Process, policy: tuple[Rule, ...]) -> None:
        """Everything a process asks of Vault in its life, with this policy alone.

        Raises:
            VaultDenied: something was not allowed.
        """
        await asyncio.to_thread(self._prepare, settings, process, policy)
        grant = await self.port.login_kubernetes(
            mount=self._auth.mount, role="least", jwt=self._jwt
        )
        token = grant.token
        assert set(grant.policies) == {"least"}
        await self.port.lookup_self(token)
        await self.port.renew_self(token)
        if rotates(settings, process):
            await self._rotate(settings, token)
        for name in held(settings, process):
            await self._refresh(settings, name, token)
        await self.port.revoke_self(token)

    def _prepare(self, settings: Settings, process: Process, policy: tuple[Rule, ...]) -> None:
        self._admin.policy("least", hcl(policy))
        for name in ("key", "service", "rotation/key", "rotation/service", "accepted"):
            self._admin.request("DELETE", f"secret/metadata/policy/{name}")
        if not rotates(settings, process):  # else the rotation makes the first key
            for name in ("key", "service"):
                self._admin.kv_write("secret", f"policy/{name}", {"api_key": "x"})

    async def _refresh(self, settings: Settings, name: str, token: SecretValue) -> None:
        source = settings.credentials[name].source
        if source.kind == "leased":
            lease = await self.port.lease(token, path=source.path, method=source.method)
            await self.port.renew_lease(token, lease.lease_id)
            await self.port.revoke_lease(token, lease.lease_id)
        else:
            await self.port.kv_read(
                token, mount=source.mount, path=source.path, kv_version=source.kv_version
            )

    async def _rotate(self, settings: Settings, token: SecretValue) -> None:
        """The requests of two rotations, the second of a compromised key."""
        data: Mapping[str, SecretValue] = {"api_key": SecretValue("x")}
        for name in ("key", "service"):
            state = KvPath("secret", f"policy/rotation/{name}")
            readers = KvPath("secret", settings.credentials[name].source.path)
            for path in (state, readers):
                for version in range(2):
                    await self.port.kv_write(
                        token, mount=path.mount, path=path.path, data=data, cas=version
                    )
            await self.port.kv_read(token, mount=state.mount, path=state.path, kv_version=2)
            await self.port.kv_destroy(token, mount=state.mount, path=state.path, versions=[1])
            await self.port.kv_read_version(
                token, mount=readers.mount, path=readers.path, version=1
            )
            await self.port.kv_delete(token, mount=readers.mount, path=readers.path, versions=[1])
        driver = GeneratedDriver(
            KeyForm("api_key"),
            KvPath("secret", "policy/accepted"),
            publish="sha256",
            vault=self.port,
            session=FixedSession(token),
            clock=CLOCK,
            rng=SystemRandom(),
            proof=None,
        )
        key = await driver.create(Label("here", "service", "r1"))
        await driver.retire(key.key_id)


def less(policy: tuple[Rule, ...]) -> list[tuple[str, tuple[Rule, ...]]]:
    """The policy without one capability, for each there is; with its name."""
    found = []
    for number, rule in enumerate(policy):
        for capability in rule.capabilities:
            left = tuple(each for each in rule.capabilities if each != capability)
            others = (*policy[:number], *policy[number + 1 :])
            kept = (*others, replace(rule, capabilities=left)) if left else others
            found.append((f"{capability} of {rule.path}", kept))
    return found


@pytest.mark.parametrize(("mode", "process"), CASES)
@pytest.mark.usefixtures("orders_database")
async def test_the_printed_policy_is_enough_and_none_of_it_too_much(
    mode: str, process: Process, openbao: OpenBao, kubernetes_auth: KubernetesAuth
) -> None:
    """With it alone everything works; without any one capability something is denied."""
    settings = read(FILE.replace("MODE", mode)).settings
    place = Place(openbao, kubernetes_auth)
    printed = rules(settings, process)
    try:
        await place.live(settings, process, printed)

        unneeded = []
        for name, policy in less(printed):
            with contextlib.suppress(VaultDenied):
                await place.live(settings, process, policy)
                unneeded.append(name)
    finally:
        await place.port.aclose()

    assert unneeded == []
