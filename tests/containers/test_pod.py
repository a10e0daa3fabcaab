"""The broker's image beside an MCP server, as two containers of one pod."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mcp import Client

from broker.demo.facts import SearchCall
from broker.demo.keyring import PREFIX
from tests.containers.cluster import Cluster
from tests.containers.pod import BROKER_UID, DIRECTORY, Pod, pod_is_ready, run_python

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


async def ask(pod: Pod, queries: list[str]) -> list[Any]:
    """One ``web_search`` for each query, all at once, each by an agent of its own."""

    async def one(query: str) -> Any:
        async with Client(pod.mcp_url, read_timeout_seconds=30.0) as client:
            # As agents do; else the client asks for schemas after the call, and nobody is there.
            await client.list_tools()
            return await client.call_tool("web_search", {"query": query})

    return await asyncio.gather(*(one(query) for query in queries))


def texts(results: list[Any]) -> list[str]:
    return [" ".join(getattr(part, "text", "") for part in each.content) for each in results]


@contextmanager
def held_upstream(cluster: Cluster) -> Iterator[threading.Event]:
    """The search API keeps all its answers back until the event is set."""
    go = threading.Event()

    def hold(_: SearchCall) -> None:
        assert go.wait(30)

    cluster.search.on_call = hold
    try:
        yield go
    finally:
        go.set()
        cluster.search.on_call = None


async def test_a_tool_call_gets_its_key_from_the_container_beside_it(
    pod: Pod, cluster: Cluster
) -> None:
    """Socket and client token come by the shared volume; the key is in no other place."""
    before = len(cluster.search.calls)
    (result,) = await ask(pod, ["lease"])
    assert not result.is_error, texts([result])
    assert [call.verdict for call in cluster.search.calls[before:]] == ["ok"]

    handouts = [one for one in pod.audit() if one["kind"] == "handout"]
    (record,) = [one for one in handouts if one["credential"] == "search-api"]
    assert record["client"] == "shop"
    assert record["tool"] == "web_search"

    places = [pod.logs(), str(pod.mcp.attrs), str(pod.broker.attrs)]
    places.append(run_python(pod.mcp, "print(open('/proc/1/environ').read())"))
    assert "SEARCH_URL" in places[-1]
    assert not any(PREFIX in place for place in places)


def test_the_broker_runs_without_any_privilege(pod: Pod) -> None:
    """A number as user, no capability, no way to more, and not one file outside its mounts."""
    status = dict(
        line.split(":\t", 1)
        for line in run_python(
            pod.broker, "print(open('/proc/1/status').read(), end='')"
        ).splitlines()
    )
    assert set(status["Uid"].split()) == {str(BROKER_UID)}
    assert {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {
        "CapEff": 0,
        "CapPrm": 0,
        "CapBnd": 0,
    }
    assert status["NoNewPrivs"] == "1"
    # Not dumpable: even its own uid, by exec in its own container, cannot look into it.
    for file in ("environ", "mem", "maps"):
        code, output = pod.broker.exec_run(["cat", f"/proc/1/{file}"])
        assert (code, b"Permission denied" in output) == (1, True), file
    refused = "import errno, pathlib\n" + "\n".join(
        f"try: pathlib.Path('{where}/x').touch()\nexcept OSError as error: "
        "print(errno.errorcode[error.errno])"
        for where in ("/", "/opt/broker", "/etc/broker", "/run/broker")
    )
    assert run_python(pod.broker, refused).split() == ["EROFS"] * 4


def test_broker_check_is_content_in_the_image(pod: Pod) -> None:
    """The pod's own check logs in, reads each credential and says ok five times."""
    code, output = pod.broker.exec_run(["broker", "check"])
    assert code == 0, output.decode()
    assert "FAILED" not in output.decode()
    assert "search-api: secret/search-api version" in output.decode()


def test_the_client_may_read_its_volume_and_no_more(pod: Pod) -> None:
    """In the MCP server's container the directory with socket and token cannot be changed."""
    program = f"""
import errno, os
print(sorted(os.listdir({DIRECTORY!r})))
for name in ("broker.sock", "client-token"):
    try: os.unlink(os.path.join({DIRECTORY!r}, name))
    except OSError as error: print(errno.errorcode[error.errno])
print(os.path.exists("/run/broker-admin"), os.path.exists("/var/run/secrets/broker"))
"""
    lines = run_python(pod.mcp, program).splitlines()
    assert "broker.sock" in lines[0]
    assert "client-token" in lines[0]
    assert lines[1:] == ["EROFS", "EROFS", "False False"]


STRANGER = f"""
import errno, http.client, os, socket
for bearer in (None, "not-the-token"):
    connection = http.client.HTTPConnection("127.0.0.1", 8210, timeout=5)
    headers = {{"Authorization": f"Bearer {{bearer}}"}} if bearer else {{}}
    connection.request("GET", "/v1/credentials/search-api", headers=headers)
    answer = connection.getresponse()
    print(answer.status, b"{PREFIX}" in answer.read())
for path in ("{DIRECTORY}/broker.sock", "/run/broker-admin/admin.sock"):
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("connected")
    except OSError as error:
        print(errno.errorcode[error.errno])
try: print(len(open("{DIRECTORY}/client-token").read()))
except OSError as error: print(errno.errorcode[error.errno])
"""


def test_a_third_container_gets_nothing(pod: Pod) -> None:
    """It shares loopback, so it may ask, and is answered 401; there is no socket to open."""
    with pod.stranger() as stranger:
        said = run_python(stranger, STRANGER).splitlines()
    assert said == ["401 False", "401 False", "ENOENT", "ENOENT", "ENOENT"]


def test_a_third_container_with_the_volume_but_without_the_group_gets_nothing(pod: Pod) -> None:
    """A volume mounted by mistake opens nothing to a uid outside the client's group."""
    with pod.stranger(volume=True) as stranger:
        said = run_python(stranger, STRANGER).splitlines()
    assert said == ["401 False", "401 False", "EACCES", "ENOENT", "EACCES"]


async def test_sigterm_of_all_at_once_loses_no_call(dying_pod: Pod, cluster: Cluster) -> None:
    """Calls under way finish, though their key is refused after the signal and a newer one needed.

    The hardest moment there is: the upstream has the call and the old key; now the pod is
    told to end; now the upstream says 401. The broker still takes the report, reads
    OpenBao again, hands the newer key out, and the second try succeeds.
    """
    pod = dying_pod
    (first,) = await ask(pod, ["lease"])
    assert not first.is_error, texts([first])
    tokens = set(cluster.admin.accessors())
    before = len(cluster.search.calls)
    for key in cluster.search.keys.known():
        cluster.search.keys.revoke(key.id)
    new, _ = cluster.new_key()
    with held_upstream(cluster) as go:
        calls = asyncio.create_task(ask(pod, ["rotation", "sidecar", "key"]))
        while pod.mcp.logs().count(b"searching for") < 1 + 3:
            assert not calls.done(), calls.result()
            await asyncio.sleep(0.1)
        ends = asyncio.create_task(asyncio.to_thread(pod.terminate_all))
        while pod_is_ready(pod):
            await asyncio.sleep(0.05)
        go.set()
        results = await calls
    codes = await ends
    assert not any(each.is_error for each in results), texts(results)
    seen = [(call.verdict, call.key_id == new) for call in cluster.search.calls[before:]]
    assert seen.count(("ok", True)) == 3
    assert ("revoked", False) in seen
    assert codes["broker"] == 0, pod.logs()[-3000:]
    assert codes["mcp"] in {0, 143}
    # The broker's Vault token went with it.
    assert len(set(cluster.admin.accessors())) == len(tokens) - 1
