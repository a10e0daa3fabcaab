# The broker's image; docs/image.md tells how to build, list and sign it.
# Stages are all it asks of a builder, so that old and small ones do; one file for amd64 and arm64.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

# --- build: what goes into the image is put together here, and stays behind with pip ---
FROM ${PYTHON_IMAGE} AS build

# pip reads these by itself: an index of yours, or none at all and what 'make wheels' fetched.
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_FIND_LINKS=/lock \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_ROOT_USER_ACTION=ignore

# The directory wheels/ need not be there: hence the pattern. Hashes are checked either way.
COPY requirements/build.txt requirements/server.txt wheel[s] /lock/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r /lock/build.txt \
    && python3 -m venv --without-pip /opt/broker \
    && /opt/build/bin/pip --python /opt/broker/bin/python install --require-hashes -r /lock/server.txt

COPY pyproject.toml README.md LICENSE /src/
COPY broker /src/broker
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist /src \
    && /opt/build/bin/pip --python /opt/broker/bin/python install --no-deps --no-index /dist/*.whl \
    && mkdir -p /opt/run/broker \
    && mkdir --mode=0700 /opt/run/broker-admin

# --- build-rotator: the same and a client for Kubernetes ---
FROM build AS build-rotator

# A stage does not inherit arguments, only the environment.
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
COPY requirements/rotator.txt /lock/
RUN /opt/build/bin/pip --python /opt/broker/bin/python install --require-hashes -r /lock/rotator.txt

# --- base: all of either image but the packages ---
FROM ${PYTHON_IMAGE} AS base

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mcp-secrets-broker" \
      org.opencontainers.image.description="Secrets for MCP servers: a sidecar between Vault and the tools" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# Without volumes the broker still has somewhere to put its sockets; with them these are covered.
COPY --from=build --chown=65532:65532 /opt/run /run
ENV HOME=/tmp \
    PATH=/opt/broker/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# A number, because the kubelet cannot judge a name under runAsNonRoot.
USER 65532:65532
EXPOSE 8211
ENTRYPOINT ["broker"]
CMD ["run"]

# --- rotator: what replaces upstream keys, as 'broker rotator' or in a sidecar that may ---
FROM base AS rotator

COPY --from=build-rotator /opt/broker /opt/broker

# --- broker: server and client; no mcp, no demo, no kubernetes. The last, so the one of a build without a target ---
FROM base AS broker

COPY --from=build /opt/broker /opt/broker
