# Sonograph as a wheel. Every image takes it as its last layer: a change of the code moves about 25 MB, most of it the small drawing
# model, and not the libraries below it, which are gigabytes.

# No image has this digest: the build passes the real one.
ARG UBUNTU_DIGEST=sha256:0000000000000000000000000000000000000000000000000000000000000000
FROM docker.io/library/ubuntu:24.04@${UBUNTU_DIGEST} AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY images/uv-requirements.lock requirements.lock ./
RUN python3 -m venv /build && /build/bin/pip install --no-cache-dir --require-hashes --no-deps -r uv-requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY tests/requirements.txt tests/requirements.txt
COPY images images
COPY kuberay kuberay
COPY graphs graphs
COPY deployments deployments
COPY sonograph sonograph
RUN /build/bin/uv build --wheel --build-constraints requirements.lock --out-dir /wheel

FROM scratch
COPY --from=build /wheel /
