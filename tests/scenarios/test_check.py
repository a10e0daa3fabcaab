"""What ``broker check`` asks, says and leaves behind, against a simulated Vault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from broker.app.check import Check, Line, Outcome
from broker.app.diagnosis import Layer
from broker.errors import VaultDenied, VaultUnreachable
from broker.secret import SecretValue
from broker.settings.domain import (
    AuthSettings,
    CredentialSettings,
    ExpirySettings,
    Settings,
    SourceSettings,
    VaultSettings,
)
from broker.settings.domain_tokens import TokenSettings
from broker.vault.interface import MountInfo
from tests.simulators.clock import EPOCH, VirtualClock
from tests.simulators.service_account import service_account_jwt
from tests.simulators.vault import VaultSimulator
from tests.simulators.vault_server import LeasedPath, Role

pytestmark = pytest.mark.looptime

SEARCH = CredentialSettings(
    "search-api",
    SourceSettings(
        kind="kv", mount="secret", path="search", expiry=ExpirySettings("field", "expires_at")
    ),
)
ORDERS = CredentialSettings("orders-db", SourceSettings(kind="leased", path="database/creds/o"))


class Vault(VaultSimulator):
    """The simulator, which also knows its mounts."""

    async def mount_info(self, token: SecretValue, *, path: str) -> MountInfo:
        self.server.use(token.reveal(), f"sys/internal/ui/mounts/{path}")
        return MountInfo("kv", 2)


class Story:
    """A Vault where all is well, a configuration for it, and what the check said."""

    def __init__(self, directory: Path) -> None:
        self.clock = VirtualClock()
        self.vault = Vault(self.clock)
        self.role = self.vault.server.role("tools", like=Role(ttl=600))
        self.vault.server.kv.put("search", {"key": "canary", "expires_at": str(EPOCH + 86_430)})
        self.vault.server.leased("database/creds/o", LeasedPath(ttl=60))
        self.token_file = directory / "token"
        self.token_file.write_text(service_account_jwt())
        auth = AuthSettings(role="tools", token_file=str(self.token_file))
        self.settings = Settings(
            vault=VaultSettings(address="https://vault.example", auth=auth),
            credentials={"search-api": SEARCH, "orders-db": ORDERS},
        )
        self.lines: list[Line] = []

    async def check(self) -> Outcome:
        check = Check(self.settings, self.vault, clock=self.clock, emit=self.lines.append)
        outcome = await check.run()
        assert "canary" not in repr(self.lines)
        return outcome

    def broken(self) -> list[tuple[str, Layer]]:
        return [(line.subject, line.broken.layer) for line in self.lines if line.broken]


@pytest.fixture
async def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


async def test_all_is_well(story: Story) -> None:
    """Every layer has its line, and neither lease nor token is left."""
    assert await story.check() is Outcome.OK

    assert [line.subject for line in story.lines] == ["vault", "login", "search-api", "orders-db"]
    assert story.lines[2].text == ("secret/search version 1: fields expires_at, key, expires in 1d")
    assert story.lines[3].text == (
        "database/creds/o: lease of 1m, renewable, fields password, username"
    )
    assert story.vault.server.live_tokens() == []
    assert story.vault.server.live_leases() == []
    assert story.vault.count("revoke_lease") == story.vault.count("revoke_self") == 1


def static(path: str) -> CredentialSettings:
    return CredentialSettings("reports", SourceSettings(kind="static_role", path=path))


async def test_a_static_role_is_read(story: Story) -> None:
    """Its line says when Vault replaces it."""
    data = {"username": "u", "password": "canary", "ttl": "60", "last_vault_rotation": "t"}
    story.vault.server.leased(
        "database/static-creds/r", LeasedPath(leased=False, make=lambda _: data)
    )
    story.settings = replace(
        story.settings, credentials={"reports": static("database/static-creds/r")}
    )

    assert await story.check() is Outcome.OK

    assert story.lines[-1].text == (
        "database/static-creds/r: replaced in 1m, fields password, username"
    )


async def test_a_static_role_that_is_none_leaves_no_lease(story: Story) -> None:
    """A path of the other kind is told, and what it minted is revoked."""
    story.settings = replace(story.settings, credentials={"reports": static("database/creds/o")})

    assert await story.check() is Outcome.CREDENTIAL

    assert [line.subject for line in story.lines if line.broken] == ["reports"]
    assert story.vault.count("revoke_lease") == 1


async def test_each_credential_is_read_once(story: Story) -> None:
    """The check costs Vault one read a credential."""
    await story.check()

    assert (story.vault.count("kv_read"), story.vault.count("lease")) == (1, 1)


async def test_one_failing_credential_does_not_hide_the_next(story: Story) -> None:
    """A refusal is reported and the rest is still read."""
    story.vault.server.deny("secret/data/*")

    assert await story.check() is Outcome.CREDENTIAL
    assert story.broken() == [("search-api", Layer.POLICY)]
    assert story.lines[-1].subject == "orders-db"


async def test_a_vault_that_falls_silent_is_not_asked_again(story: Story) -> None:
    """After a lost connection the rest is named, not waited for."""
    story.vault.fail(VaultUnreachable(), operation="kv_read")

    assert await story.check() is Outcome.CREDENTIAL
    assert story.broken() == [("search-api", Layer.NETWORK), ("orders-db", Layer.NETWORK)]
    assert story.vault.count("lease") == 0
    assert story.vault.server.live_tokens() == []


async def test_a_value_that_is_over_by_its_own_word(story: Story) -> None:
    """A key whose own expiry has passed, less the skew, is a failure."""
    story.vault.server.kv.put("search", {"key": "canary", "expires_at": str(EPOCH + 20)})

    assert await story.check() is Outcome.CREDENTIAL
    assert story.broken() == [("search-api", Layer.VALUE)]
    assert "expired 10s ago" in story.lines[2].text


async def test_a_lease_that_cannot_be_used_is_revoked_too(story: Story) -> None:
    """A missing field is reported after the lease is given back."""
    odd = replace(ORDERS, fields={"dsn": "x://{nothing}@h"})
    story.settings = replace(story.settings, credentials={"orders-db": odd})

    assert await story.check() is Outcome.CREDENTIAL
    assert story.broken() == [("orders-db", Layer.VALUE)]
    assert story.vault.server.live_leases() == []


async def test_a_lease_that_may_not_be_revoked_dies_with_the_token(story: Story) -> None:
    """A denied revocation of the lease is no failure when the token takes it along."""
    story.vault.server.deny("sys/leases/revoke")

    assert await story.check() is Outcome.OK
    assert story.broken() == []
    assert story.vault.server.live_leases() == []


async def test_what_is_left_behind_is_said(story: Story) -> None:
    """When neither can be revoked, the check says so."""
    story.vault.fail(VaultDenied(), operation="revoke_self")

    assert await story.check() is Outcome.OK
    assert story.broken() == [("clean-up", Layer.POLICY)]


async def test_a_batch_token_is_not_revoked(story: Story) -> None:
    """Batch tokens cannot be revoked; they end by themselves."""
    story.role.kind = "batch"

    assert await story.check() is Outcome.OK
    assert story.vault.count("revoke_self") == 0
    assert story.vault.server.live_leases() == []


async def test_a_token_with_a_use_limit_is_unfit(story: Story) -> None:
    """The role is named, and nothing is read with such a token."""
    story.role.num_uses = 5

    assert await story.check() is Outcome.LOGIN
    assert story.broken() == [("login", Layer.ROLE)]
    assert story.vault.server.live_tokens() == []


async def test_a_given_token_is_left_alone(story: Story) -> None:
    """With token_file only the lease is revoked; when it cannot be, the check says so."""
    token = story.vault.server.issue(Role(ttl=600))
    story.token_file.write_text(token.text)
    auth = AuthSettings(method="token_file", token_file=str(story.token_file))
    story.settings = replace(story.settings, vault=replace(story.settings.vault, auth=auth))

    assert await story.check() is Outcome.OK
    assert story.vault.server.live_tokens() == [token]
    assert story.vault.server.live_leases() == []

    story.vault.server.deny("sys/leases/revoke")
    assert await story.check() is Outcome.OK
    assert story.broken() == [("clean-up", Layer.POLICY)]
    assert story.vault.server.live_tokens() == [token]


async def test_an_auth_mount_that_is_not_there(story: Story) -> None:
    """A 403 where no method is mounted is told from a refused token, without sending one."""
    auth = replace(story.settings.vault.auth, mount="nowhere")
    story.settings = replace(story.settings, vault=replace(story.settings.vault, auth=auth))

    assert await story.check() is Outcome.LOGIN
    assert story.broken() == [("login", Layer.AUTH_MOUNT)]


async def test_a_review_that_fails(story: Story) -> None:
    """A 403 with a method at the mount and good claims is TokenReview's."""
    story.role.jwts = {"another"}

    assert await story.check() is Outcome.LOGIN
    assert story.broken() == [("login", Layer.TOKEN_REVIEW)]


async def test_a_mount_that_nobody_can_tell_of(story: Story) -> None:
    """When the second question fails, the first answer is explained by what is known."""
    story.vault.fail(VaultDenied(), operation="login_kubernetes", times=1)
    story.vault.fail(VaultUnreachable(), operation="login_kubernetes")

    assert await story.check() is Outcome.LOGIN
    assert story.broken() == [("login", Layer.TOKEN_REVIEW)]


async def test_an_outage_ends_the_check_at_once(story: Story) -> None:
    """Without Vault nothing is logged in or read."""
    story.vault.outage()

    assert await story.check() is Outcome.VAULT
    assert [call.operation for call in story.vault.calls] == ["health"]


async def test_a_sealed_vault(story: Story) -> None:
    """Sealed is a word of Vault's own health."""
    story.vault.seal()

    assert await story.check() is Outcome.VAULT
    assert story.broken() == [("vault", Layer.VAULT)]


# --- what replicas share of scoped tokens ---------------------------------------------------

SIGNING_KEY = "canary-" + "k" * 43


def share(story: Story, **documents: dict[str, str]) -> None:
    """Tokens are shared; ``documents`` stand below their path."""
    story.settings = replace(
        story.settings,
        credentials={},
        tokens=TokenSettings(store="shared", path="installation/tokens"),
    )
    for name, data in documents.items():
        story.vault.server.kv.put(f"installation/tokens/{name}", data)


async def test_shared_tokens_have_a_line(story: Story) -> None:
    """How many keys and revocations, and none of them; nothing is written."""
    entry = '["subject","canary",2,9000000000]'
    share(
        story,
        key={"current": "k1", "k1": SIGNING_KEY, "k0": SIGNING_KEY},
        revocations={"revocations": f'{{"schema":1,"sequence":2}}\n{entry}'},
    )
    assert await story.check() is Outcome.OK
    assert story.lines[-1] == Line(
        "scoped tokens", "secret/installation/tokens: 2 signing keys, 1 revocation"
    )
    assert story.vault.count("kv_write") == 0


async def test_shared_tokens_that_nobody_used_yet(story: Story) -> None:
    """The first broker makes the key; that it is missing is no fault."""
    share(story)
    assert await story.check() is Outcome.OK
    assert story.lines[-1].text == (
        "secret/installation/tokens: no signing key yet, the first broker that needs it makes it, "
        "no revocations"
    )
    assert story.vault.count("kv_write") == 0


@pytest.mark.parametrize("store", ["pod", "off"])
async def test_tokens_that_are_not_shared_have_none(
    story: Story, store: Literal["pod", "off"]
) -> None:
    """Nothing of them is in Vault."""
    story.settings = replace(story.settings, tokens=TokenSettings(store=store))
    assert await story.check() is Outcome.OK
    assert "scoped tokens" not in [line.subject for line in story.lines]


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ({"key": {"current": "k1"}}, "does not name the current one"),
        ({"key": {"current": "k1", "k1": "canary-short"}}, "is too short"),
        ({"revocations": {"something": "canary"}}, "is damaged"),
        ({"revocations": {"revocations": "canary"}}, "damaged"),
    ],
)
async def test_a_damaged_document_is_named(
    story: Story, documents: dict[str, dict[str, str]], words: str
) -> None:
    """Brokers would refuse every scoped token by it."""
    share(story, **documents)
    assert await story.check() is Outcome.CREDENTIAL
    assert story.broken() == [("scoped tokens", Layer.VALUE)]
    assert words in story.lines[-1].text


async def test_signing_keys_that_were_deleted(story: Story) -> None:
    """They can be undeleted; revocations that were are completed by brokers."""
    share(story, key={"current": "k1", "k1": SIGNING_KEY}, revocations={"revocations": "{}"})
    story.vault.server.kv.delete("installation/tokens/revocations")
    story.vault.server.kv.delete("installation/tokens/key")
    assert await story.check() is Outcome.CREDENTIAL
    assert story.broken() == [("scoped tokens", Layer.VALUE)]
    story.vault.server.kv.undelete("installation/tokens/key")
    story.lines.clear()
    assert await story.check() is Outcome.OK


async def test_a_policy_without_the_shared_documents(story: Story) -> None:
    """The remedy is the command that prints the lines."""
    share(story, key={"current": "k1", "k1": SIGNING_KEY})
    story.vault.server.deny("secret/data/installation/tokens/revocations")
    assert await story.check() is Outcome.CREDENTIAL
    assert story.broken() == [("scoped tokens", Layer.POLICY)]
    broken = story.lines[-1].broken
    assert broken is not None
    assert "broker policy vault" in broken.remedy


async def test_shared_tokens_are_not_asked_for_in_silence(story: Story) -> None:
    """After a credential was answered by nothing."""
    credentials = story.settings.credentials
    share(story)
    story.settings = replace(story.settings, credentials=credentials)
    story.vault.fail(VaultUnreachable(), operation="lease")
    assert await story.check() is Outcome.CREDENTIAL
    assert story.broken() == [
        ("orders-db", Layer.NETWORK),
        ("scoped tokens", Layer.NETWORK),
    ]
