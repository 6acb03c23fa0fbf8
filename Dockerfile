# scottbench with all its plug-ins, from Debian packages and wheels.
#
#   docker build -t scottbench .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD:/work" -v "$HOME/.cache/scottbench:/cache" scottbench run --device cuda
#
# PyPI's torch brings CUDA. Without a GPU, two gigabytes less:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu -t scottbench .
#
# tests/training/test_cluster_jobs.py reads these lines; nobody has built them there.

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY scottbench scottbench
COPY plugins plugins
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# g++: torch compiles with it where --compile is asked for. procps: pkill, by which the jobs in examples/slurm tell workers of SIGUSR1.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ procps \
    && rm -rf /var/lib/apt/lists/*
ARG PIP_EXTRA_INDEX_URL=""
COPY --from=wheel /wheels /wheels
# by its path: a package of this name in an index is not taken
RUN set -- /wheels/scottbench-*.whl && pip install --no-cache-dir "$1[8bit]" && rm -r /wheels
RUN useradd --create-home --uid 1000 scottbench && mkdir /cache /work && chown scottbench /cache /work
# weights and data come by `scottbench fetch` into /cache, which outlives the container
ENV SCOTTBENCH_CACHE=/cache/scottbench HF_HUB_CACHE=/cache/hub TORCH_HOME=/cache/torch PYTHONUNBUFFERED=1
USER scottbench
WORKDIR /work
# SIGTERM and SIGUSR1 reach scottbench itself, which keeps what is finished and ends with 143 or 138
ENTRYPOINT ["scottbench"]
CMD ["--help"]
