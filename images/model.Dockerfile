# The pods of one model, or of several: base, and the packages of these models.
ARG BASE=base

# Only the files that the stage below reads, so that a change of the code rebuilds no layer of packages.
FROM ${BASE} AS requirements
ARG MODELS="whisper"
USER 0:0
COPY requirements.lock /requirements/
COPY images/check_versions.py /requirements/images/
WORKDIR /context
RUN --mount=type=bind,target=/context \
    python images/requirements.py ${MODELS} > /requirements/requirements.txt \
    && cp --parents deployments/*/fetch_weights.sh /requirements
USER 10001:10001

FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
USER 0:0
RUN --mount=type=cache,target=/var/cache/uv --mount=type=bind,from=requirements,source=/requirements,target=/source \
    uv pip install --python /opt/sonograph -r /source/requirements.txt --constraints /source/requirements.lock --build-constraints /source/requirements.lock \
    && python /source/images/check_versions.py
USER 10001:10001

# Weights come on a volume. WEIGHTS="whisper=small.en diffusion=REPOSITORY@COMMIT" puts those of the image's models into it instead.
ARG MODELS="whisper"
ARG WEIGHTS=""
RUN --mount=type=bind,from=requirements,source=/requirements,target=/source \
    for model in ${MODELS}; do for weights in ${WEIGHTS}; do \
        if [ "${weights%%=*}" = "${model}" ]; then \
            bash "/source/deployments/${model}/fetch_weights.sh" "${weights#*=}" "/opt/sonograph/share/sonograph/${model}"; \
        fi; \
    done; done
USER 0:0
RUN --mount=type=bind,from=wheel,target=/wheel \
    uv pip install --python /opt/sonograph --no-cache --no-deps /wheel/*.whl
USER 10001:10001

# Below every RUN, so that another value rebuilds no layer.
ARG IMAGE
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="Sonograph ${IMAGE}" \
      org.opencontainers.image.description="Each model of ${MODELS} in a Triton of its own" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
