# The pods that draw: base and Stable Diffusion's packages.
ARG BASE=base
FROM ${BASE}
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="Sonograph diffusion" \
      org.opencontainers.image.description="Text to image, by diffusers in Triton" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
USER 0:0
COPY deployments/diffusion/requirements.txt /tmp/deployments/diffusion/
RUN --mount=type=cache,target=/var/cache/uv python /tmp/images/requirements.py diffusion \
    | uv pip install --python /opt/sonograph -r /dev/stdin --constraints /tmp/requirements.lock --build-constraints /tmp/requirements.lock
USER 10001:10001

# The small model ships with Sonograph, another comes on a volume; DIFFUSION_WEIGHTS=stabilityai/sd-turbo puts it into the image.
ARG DIFFUSION_WEIGHTS=""
RUN if [ -n "${DIFFUSION_WEIGHTS}" ]; then \
        hf download "${DIFFUSION_WEIGHTS}" --exclude "*.bin" \
            --local-dir "/opt/sonograph/share/sonograph/diffusion/${DIFFUSION_WEIGHTS##*/}"; \
    fi
USER 0:0
RUN --mount=type=bind,from=wheel,target=/wheel uv pip install --python /opt/sonograph --no-deps /wheel/*.whl
USER 10001:10001
