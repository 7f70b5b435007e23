# The base of a model's image: NVIDIA's Triton, Ray, and the packages that every pod needs. A model's image adds its own packages.

# No image has this digest: the build passes the real one.
ARG TRITON_DIGEST=sha256:0000000000000000000000000000000000000000000000000000000000000000

FROM scratch AS requirements
COPY pyproject.toml requirements.lock /
COPY images/requirements.py images/check_versions.py images/uv-requirements.lock /images/
COPY graphs/requirements.txt /graphs/

FROM nvcr.io/nvidia/tritonserver:26.07-py3@${TRITON_DIGEST}
ARG PYTHON_VERSION=3.12.3
ARG TRITON_WHEEL=2.71.0
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# KubeRay starts Ray through bash, and its probes call wget. Versions are those of the image's Ubuntu: older ones leave its archive.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends bash wget python3-venv && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 sonograph && useradd --uid 10001 --gid 10001 --create-home sonograph

WORKDIR /opt/sonograph
# NVIDIA's PYTHONPATH names a folder with another numpy, which Python would load before ours.
ENV PATH=/opt/sonograph/bin:$PATH PYTHONPATH="" PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1 \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_CACHE_DIR=/var/cache/uv
RUN --mount=type=bind,from=requirements,source=/images,target=/source \
    python3 -m venv /opt/sonograph \
    && python -c "import platform, sys; sys.exit(platform.python_version() != '${PYTHON_VERSION}')" \
    && pip install --no-cache-dir --require-hashes --no-deps -r /source/uv-requirements.lock
RUN --mount=type=cache,target=/var/cache/uv --mount=type=bind,from=requirements,target=/source \
    python /source/images/requirements.py \
    | uv pip install --python /opt/sonograph -r /dev/stdin --constraints /source/requirements.lock --build-constraints /source/requirements.lock \
    && uv pip install --python /opt/sonograph --no-deps /opt/tritonserver/python/tritonserver-"${TRITON_WHEEL}"-*.whl \
    && python /source/images/check_versions.py
RUN mkdir -p share/sonograph && chown 10001:10001 share/sonograph && ln -s /opt/sonograph/bin/ray /opt/sonograph/bin/serve /opt/sonograph/bin/sonograph /usr/local/bin/

USER 10001:10001
ENTRYPOINT []
CMD ["bash"]

LABEL org.opencontainers.image.title="Sonograph base" \
      org.opencontainers.image.description="Triton, Ray and the packages of every pod of Sonograph" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tritonserver:26.07-py3"
