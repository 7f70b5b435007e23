# The pods that draw: base and Stable Diffusion's packages.
ARG BASE=base

FROM scratch AS requirements
COPY pyproject.toml requirements.lock /
COPY images/requirements.py images/check_versions.py /images/
COPY graphs/requirements.txt /graphs/
COPY deployments/diffusion/requirements.txt /deployments/diffusion/

FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
USER 0:0
RUN --mount=type=cache,target=/var/cache/uv --mount=type=bind,from=requirements,target=/source \
    python /source/images/requirements.py diffusion \
    | uv pip install --python /opt/sonograph -r /dev/stdin --constraints /source/requirements.lock --build-constraints /source/requirements.lock \
    && python /source/images/check_versions.py
USER 10001:10001

# The small model ships with Sonograph, another comes on a volume; DIFFUSION_WEIGHTS=stabilityai/sd-turbo puts it into the image.
ARG DIFFUSION_WEIGHTS=""
RUN if [ -n "${DIFFUSION_WEIGHTS}" ]; then \
        hf download "${DIFFUSION_WEIGHTS}" --exclude "*.bin" \
            --local-dir "/opt/sonograph/share/sonograph/diffusion/${DIFFUSION_WEIGHTS##*/}"; \
    fi
USER 0:0
RUN --mount=type=bind,from=wheel,target=/wheel \
    uv pip install --python /opt/sonograph --no-cache --no-deps /wheel/*.whl
USER 10001:10001

# Below every RUN, so that another value makes no layer anew.
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="Sonograph diffusion" \
      org.opencontainers.image.description="Text to image, by diffusers in Triton" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
