# The head and the ingress: neither Triton nor torch. Ubuntu 24.04's own Python, as in NVIDIA's image: Ray compares the patch version.

# No image has this digest: the build passes the real one.
ARG UBUNTU_DIGEST=sha256:0000000000000000000000000000000000000000000000000000000000000000

FROM scratch AS requirements
COPY pyproject.toml requirements.lock /
COPY images/requirements.py images/check_versions.py images/uv-requirements.lock /images/
COPY graphs/requirements.txt /graphs/

FROM docker.io/library/ubuntu:24.04@${UBUNTU_DIGEST}
ARG PYTHON_VERSION=3.12.3
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# KubeRay starts Ray through bash, and its probes call wget. Versions are those of the image's Ubuntu: older ones leave its archive.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash wget ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 sonograph && useradd --uid 10001 --gid 10001 --create-home sonograph

WORKDIR /opt/sonograph
ENV PATH=/opt/sonograph/bin:$PATH PYTHONPATH="" PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1 \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_CACHE_DIR=/var/cache/uv
RUN --mount=type=bind,from=requirements,source=/images,target=/source \
    python3 -m venv /opt/sonograph \
    && python -c "import platform, sys; sys.exit(platform.python_version() != '${PYTHON_VERSION}')" \
    && pip install --no-cache-dir --require-hashes --no-deps -r /source/uv-requirements.lock
RUN --mount=type=cache,target=/var/cache/uv --mount=type=bind,from=requirements,target=/source \
    python /source/images/requirements.py \
    | uv pip install --python /opt/sonograph -r /dev/stdin --constraints /source/requirements.lock --build-constraints /source/requirements.lock \
    && python /source/images/check_versions.py
RUN ln -s /opt/sonograph/bin/ray /opt/sonograph/bin/serve /opt/sonograph/bin/sonograph /usr/local/bin/
RUN --mount=type=bind,from=wheel,target=/wheel \
    uv pip install --python /opt/sonograph --no-cache --no-deps /wheel/*.whl

USER 10001:10001
ENTRYPOINT []
CMD ["bash"]

# Below every RUN, so that another value rebuilds no layer.
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="Sonograph ingress" \
      org.opencontainers.image.description="The HTTP edge of Sonograph, and the head of its Ray cluster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/ubuntu:24.04"
