# The pods that transcribe: base and Whisper's packages.
ARG BASE=base

FROM scratch AS requirements
COPY pyproject.toml requirements.lock /
COPY images/requirements.py images/check_versions.py /images/
COPY graphs/requirements.txt /graphs/
COPY deployments/whisper/requirements.txt /deployments/whisper/

FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
USER 0:0
RUN --mount=type=cache,target=/var/cache/uv --mount=type=bind,from=requirements,target=/source \
    python /source/images/requirements.py whisper \
    | uv pip install --python /opt/sonograph -r /dev/stdin --constraints /source/requirements.lock --build-constraints /source/requirements.lock \
    && python /source/images/check_versions.py
USER 10001:10001

# Weights come on a volume; WHISPER_WEIGHTS=small.en puts them into the image instead.
ARG WHISPER_WEIGHTS=""
RUN if [ -n "${WHISPER_WEIGHTS}" ]; then \
        python -c "import sys, whisper; whisper.load_model(sys.argv[1], device='cpu', download_root=sys.argv[2])" \
            "${WHISPER_WEIGHTS}" /opt/sonograph/share/sonograph/whisper; \
    fi
USER 0:0
RUN --mount=type=bind,from=wheel,target=/wheel \
    uv pip install --python /opt/sonograph --no-cache --no-deps /wheel/*.whl
USER 10001:10001

# Below every RUN, so that another value makes no layer anew.
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="Sonograph whisper" \
      org.opencontainers.image.description="Speech to text, by openai-whisper in Triton" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
