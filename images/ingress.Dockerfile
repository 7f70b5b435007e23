# The head and the ingress: neither Triton nor torch. Ubuntu 24.04's own Python, as in NVIDIA's image: Ray compares the patch version.
ARG UBUNTU_DIGEST
FROM docker.io/library/ubuntu:24.04@${UBUNTU_DIGEST}
ARG PYTHON_VERSION=3.12.3
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="Sonograph ingress" \
      org.opencontainers.image.description="The HTTP edge of Sonograph, and the head of its Ray cluster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/ubuntu:24.04"
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# KubeRay starts Ray through bash, and its probes call wget. Versions are those of the image's Ubuntu: older ones leave its archive.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash wget ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 sonograph && useradd --uid 10001 --gid 10001 --create-home sonograph

WORKDIR /opt/sonograph
ENV PATH=/opt/sonograph/bin:$PATH UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_CACHE_DIR=/var/cache/uv PYTHONUNBUFFERED=1
COPY images/uv-requirements.lock /tmp/images/
RUN python3 -m venv /opt/sonograph \
    && python -c "import platform, sys; sys.exit(platform.python_version() != '${PYTHON_VERSION}')" \
    && pip install --no-cache-dir --require-hashes --no-deps -r /tmp/images/uv-requirements.lock
COPY pyproject.toml requirements.lock /tmp/
COPY images/requirements.py /tmp/images/
COPY graphs/http/requirements.txt /tmp/graphs/http/
RUN --mount=type=cache,target=/var/cache/uv python /tmp/images/requirements.py ingress \
    | uv pip install --python /opt/sonograph -r /dev/stdin --constraints /tmp/requirements.lock --build-constraints /tmp/requirements.lock
RUN ln -s /opt/sonograph/bin/ray /opt/sonograph/bin/serve /opt/sonograph/bin/sonograph /usr/local/bin/
RUN --mount=type=bind,from=wheel,target=/wheel uv pip install --python /opt/sonograph --no-deps /wheel/*.whl

USER 10001:10001
ENTRYPOINT []
CMD ["bash"]
