"""The demo's configuration is one that the broker takes."""

from __future__ import annotations

from pathlib import Path

from broker.demo.configuration import Lives, broker_yaml
from broker.settings.load import load


def test_the_broker_takes_the_configuration(tmp_path: Path) -> None:
    """The generated file loads without a fault or an advice, with the short lives in it."""
    file = tmp_path / "broker.yaml"
    file.write_text(
        broker_yaml(
            directory=tmp_path,
            lives=Lives(hold=2, margin=1),
            vault="http://127.0.0.1:20001",
            search="http://127.0.0.1:20002",
            postgres="127.0.0.1:20003",
            data_port=20004,
            operations_port=20005,
        )
    )
    loaded = load(file, {})
    assert loaded.advice == ()
    assert sorted(loaded.settings.credentials) == ["orders-db", "search-admin", "search-api"]
    assert {loaded.settings.credentials[name].hold for name in ("orders-db", "search-api")} == {2.0}
    assert loaded.settings.clients["shop"].credentials == ("search-api", "orders-db")
