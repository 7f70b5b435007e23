# What a room's pod is made from: NVIDIA's Triton, Ray, and the packages that every pod needs. The rooms' images add theirs.
ARG TRITON_DIGEST
FROM nvcr.io/nvidia/tritonserver:26.07-py3@${TRITON_DIGEST}
ARG PYTHON_VERSION=3.12.3
ARG TRITON_WHEEL=2.71.0
LABEL org.opencontainers.image.title="Sonograph base" \
      org.opencontainers.image.description="Triton, Ray and what every pod of Sonograph needs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tritonserver:26.07-py3"
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# KubeRay starts Ray through bash, and its probes call wget. Versions are those of the image's Ubuntu: older ones leave its archive.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends bash wget python3-venv && rm -rf /var/lib/apt/lists/*
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
RUN --mount=type=cache,target=/var/cache/uv python /tmp/images/requirements.py base \
    | uv pip install --python /opt/sonograph -r /dev/stdin --constraints /tmp/requirements.lock --build-constraints /tmp/requirements.lock \
    && uv pip install --python /opt/sonograph --no-deps /opt/tritonserver/python/tritonserver-"${TRITON_WHEEL}"-*.whl
RUN mkdir -p share/sonograph && chown 10001:10001 share/sonograph && ln -s /opt/sonograph/bin/ray /opt/sonograph/bin/serve /opt/sonograph/bin/sonograph /usr/local/bin/

USER 10001:10001
ENTRYPOINT []
CMD ["bash"]
