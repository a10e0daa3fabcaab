"""Engine, images, cluster and pod: made when the first test asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import docker
import pytest

from tests.containers.cluster import Cluster
from tests.containers.images import Images
from tests.containers.pod import Pod


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The engine that DOCKER_HOST names."""
    client = docker.from_env(timeout=300)
    yield client
    client.close()


@pytest.fixture(scope="session")
def images(engine: docker.DockerClient) -> Iterator[Images]:
    """All images of the tests; what was built for them is removed."""
    images = Images(engine)
    yield images
    images.close()


@pytest.fixture(scope="session")
def base(images: Images) -> str:
    """The image that all others start from."""
    return images.python()


@pytest.fixture(scope="session")
def broker_image(images: Images) -> str:
    """The image under test."""
    return images.broker("broker")


@pytest.fixture(scope="session")
def rotator_image(images: Images) -> str:
    """The image of whoever rotates."""
    return images.broker("rotator")


@pytest.fixture(scope="session")
def mcp_image(images: Images) -> str:
    """The example MCP server's image."""
    return images.mcp()


@pytest.fixture(scope="session")
def cluster(
    engine: docker.DockerClient, images: Images, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """OpenBao, TokenReview and the search API on a network of their own."""
    cluster = Cluster(engine, tmp_path_factory.mktemp("cluster"), images.openbao())
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def pods(
    engine: docker.DockerClient,
    cluster: Cluster,
    broker_image: str,
    mcp_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], AbstractContextManager[Pod]]:
    """Makes a running pod; a good search key is in OpenBao."""

    @contextmanager
    def make() -> Iterator[Pod]:
        cluster.new_key()
        directory = tmp_path_factory.mktemp("pod")
        pod = Pod(engine, cluster, directory, broker_image=broker_image, mcp_image=mcp_image)
        try:
            pod.start()
            yield pod
        finally:
            pod.close()

    return make


@pytest.fixture(scope="session")
def pod(pods: Callable[[], AbstractContextManager[Pod]]) -> Iterator[Pod]:
    """A pod for tests that leave it as it is."""
    with pods() as pod:
        yield pod


@pytest.fixture
def dying_pod(pods: Callable[[], AbstractContextManager[Pod]]) -> Iterator[Pod]:
    """A pod of the test's own."""
    with pods() as pod:
        yield pod
