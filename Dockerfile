# syntax=docker/dockerfile:1
# docker build --target cpu --tag mixlaw:cpu .    laptops and CI
# docker build --tag mixlaw .                     GPU nodes: PyPI's torch with its CUDA 13 (driver 580 or newer)
# --build-arg REVISION=$(git describe --always --dirty --abbrev=12) gives runs in the image their commit.
# Built where it was written by scripts/image.sh, on another base: no registry could be reached there.

# The digest is the one that public projects pin for this tag; it was not looked up in the registry here.
FROM python:3.12.14-slim-bookworm@sha256:392307d22300de8b5986851a12d9176dfc0fc073e65bf6523ebd7dcbeb23564e AS base
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/app OMP_NUM_THREADS=1 \
    MIXLAW_CACHE=/work/cache HF_HOME=/work/hf MPLCONFIGDIR=/work/cache/matplotlib WANDB_DIR=/work/wandb
# g++: torch.compile. git: the revision in run.json, where a checkout is mounted. Versions are those of bookworm: Debian
# deletes a point release when the next one comes, so exact pins would soon break the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 mixlaw \
    && install --directory --mode 1777 /work /work/cache /work/hf /work/wandb /app/runs
WORKDIR /app
COPY pyproject.toml ./
COPY .docker .docker
# An empty package stands for the code, which comes last: a change of it installs nothing again.
RUN --mount=type=cache,target=/root/.cache/pip \
    mkdir mixlaw && touch README.md mixlaw/__init__.py \
    && pip install --constraint .docker/constraints.txt setuptools

FROM base AS cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-build-isolation --constraint .docker/constraints-cpu.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu --editable ".[train]"
COPY --chmod=755 . .
ARG REVISION=""
ENV MIXLAW_REVISION=$REVISION
USER 1000
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["python", "-m", "train", "--help"]

FROM base AS cuda
# What nvidia-container-toolkit and enroot mount of the driver.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-build-isolation --constraint .docker/constraints.txt --editable ".[train]"
COPY --chmod=755 . .
ARG REVISION=""
ENV MIXLAW_REVISION=$REVISION
USER 1000
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["python", "-m", "train", "--help"]
