"""The demo's real parts do what the tests that lean on them believe."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

from broker.demo.openbao import OpenBao
from broker.demo.openbao_admin import Admin, AdminError
from broker.demo.postgres import Postgres
from broker.secret import SecretValue
from tests.conftest import KubernetesAuth

pytestmark = pytest.mark.real


def login(openbao: OpenBao, jwt: SecretValue, role: str = "broker") -> Any:
    return openbao.admin.request(
        "POST", "auth/kubernetes/login", {"role": role, "jwt": jwt.reveal()}
    )["auth"]


def test_openbao_keeps_its_data_through_kill_9(openbao: OpenBao) -> None:
    """Killed and restarted, OpenBao answers on the same address with the same values."""
    openbao.admin.kv_write("secret", "kept", {"value": "still here"})
    openbao.kill()
    assert openbao.pid is None
    openbao.restart()
    found = openbao.admin.request("GET", "secret/data/kept")
    assert found["data"]["data"] == {"value": "still here"}


def test_openbao_seals_and_unseals(openbao: OpenBao) -> None:
    """A sealed OpenBao answers 503, and after unsealing 200."""
    openbao.seal()
    assert openbao.admin.health() == 503
    openbao.unseal()
    assert openbao.admin.health() == 200


def test_login_with_a_service_account_token(
    openbao: OpenBao, kubernetes_auth: KubernetesAuth
) -> None:
    """A signed token of the right account and audience gets the role's policies."""
    auth = login(openbao, kubernetes_auth.token())
    assert (auth["token_policies"], auth["renewable"]) == (["broker", "default"], True)


@pytest.mark.parametrize("fault", ["audience", "expired", "account", "forbidden", "failing"])
def test_login_is_refused(openbao: OpenBao, kubernetes_auth: KubernetesAuth, fault: str) -> None:
    """Every trouble with the token or with TokenReview is a 403 at OpenBao's login."""
    cluster = kubernetes_auth.cluster
    jwt = kubernetes_auth.token()
    if fault == "audience":
        jwt = kubernetes_auth.token(audience="somebody-else")
    elif fault == "expired":
        jwt = kubernetes_auth.token(ttl=-60)
    elif fault == "account":
        cluster.accounts.create("mcp", "stranger")
        jwt = cluster.accounts.issue("mcp", "stranger", audiences=["vault"])
    elif fault == "forbidden":
        cluster.behaviour = 403
    else:
        cluster.behaviour = 500
    try:
        with pytest.raises(AdminError) as caught:
            login(openbao, jwt)
    finally:
        cluster.behaviour = "answer"
    assert caught.value.status == 403
    assert login(openbao, kubernetes_auth.token())


def test_a_renewal_reviews_the_token_of_the_login_again(
    openbao: OpenBao, kubernetes_auth: KubernetesAuth
) -> None:
    """OpenBao renews a Vault token only while the login's service-account token is good."""
    cluster = kubernetes_auth.cluster
    cluster.accounts.create("mcp", "short-lived")
    openbao.admin.kubernetes_role(
        "short-lived",
        service_account="short-lived",
        namespace="mcp",
        audience="vault",
        policies=["broker"],
        token_ttl="1h",
    )
    jwt = cluster.accounts.issue("mcp", "short-lived", audiences=["vault"])
    caller = Admin(openbao.address, SecretValue(login(openbao, jwt, "short-lived")["client_token"]))
    try:
        assert caller.request("POST", "auth/token/renew-self", {})["auth"]["lease_duration"] == 3600
        cluster.accounts.delete("mcp", "short-lived")
        with pytest.raises(AdminError) as caught:
            caller.request("POST", "auth/token/renew-self", {})
        assert caught.value.status == 403
        assert caller.request("GET", "auth/token/lookup-self")["data"]["ttl"] > 3500
    finally:
        caller.close()


def test_login_waits_while_token_review_hangs(
    openbao: OpenBao, kubernetes_auth: KubernetesAuth
) -> None:
    """A hanging TokenReview holds the login, which goes through once it answers."""
    kubernetes_auth.cluster.behaviour = "hang"
    timer = threading.Timer(0.3, setattr, (kubernetes_auth.cluster, "behaviour", "answer"))
    timer.start()
    before = time.monotonic()
    assert login(openbao, kubernetes_auth.token())
    assert time.monotonic() - before > 0.25
    timer.join()


def test_leased_user_dies_with_its_lease(
    openbao: OpenBao, postgres: Postgres, orders_database: str
) -> None:
    """A leased user reads the orders until its lease is revoked; then PostgreSQL refuses it."""
    asked = time.time()
    lease = openbao.admin.request("GET", orders_database)
    answered = time.time()
    name = lease["data"]["username"]
    url = postgres.url.replace("{{username}}", name).replace(
        "{{password}}", lease["data"]["password"]
    )
    with psycopg.connect(url, connect_timeout=60) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (5,)
    assert openbao.admin.leases(orders_database) == [lease["lease_id"]]
    until = postgres.users()[name].valid_until
    assert until is not None
    assert asked + 30 < until < answered + 90

    openbao.admin.revoke_lease(lease["lease_id"])

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=60)
    assert name in postgres.refused()
    assert name not in postgres.users()
