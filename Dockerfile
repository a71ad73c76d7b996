# Two targets: `docker build --target cpu .` for laptops and CI, the last one (CUDA, from PyPI's torch) for GPU nodes.
# Not built where it was written: no Docker engine was at hand.
FROM python:3.12-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/app PIP_NO_CACHE_DIR=1 OMP_NUM_THREADS=1 \
    MIXLAW_CACHE=/work/cache WANDB_DIR=/work/wandb HF_HOME=/work/hf
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 mixlaw \
    && mkdir /app /work && chown mixlaw /app /work
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY mixlaw mixlaw

FROM base AS cpu
RUN pip install --extra-index-url https://download.pytorch.org/whl/cpu ".[train]" && rm -rf build
COPY --chown=mixlaw . .
USER mixlaw
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "scripts.demo"]

FROM base AS cuda
RUN pip install ".[train]" && rm -rf build
COPY --chown=mixlaw . .
USER mixlaw
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "train", "--help"]
