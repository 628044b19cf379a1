# syntax=docker/dockerfile:1
# One image for every party; what a container does is its command. Built from the same hashed lock as `make`.
# Pin both base images by digest in your own registry: a tag can be moved.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# As in the Makefile: PyTorch comes apart from the lock, in its CPU build. Where pip's configuration doesn't find that
# build: --build-arg TORCH_INDEX="--extra-index-url <PyTorch's CPU index>"
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /app
WORKDIR /src
COPY requirements.lock pyproject.toml ./
RUN /app/bin/pip install --quiet torch==2.13.0 ${TORCH_INDEX} \
 && /app/bin/pip install --quiet --no-deps --require-hashes -r requirements.lock
COPY README.md LICENSE ./
COPY protocol protocol
COPY node node
COPY coordinator coordinator
COPY bank_node bank_node
COPY data_partner_node data_partner_node
COPY ledger ledger
COPY concordat concordat
RUN /app/bin/pip install --quiet --no-deps --no-build-isolation . \
 # Developers' tools are in the lock and have no business at an institution.
 && python -c 'import re, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*(re.split("[^A-Za-z0-9._-]", name)[0] for name in p["optional-dependencies"]["dev"]))' \
  | xargs /app/bin/pip uninstall --quiet --yes

FROM ${BASE}
# LightGBM's library needs the system's OpenMP.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 concordat \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/concordat --shell /usr/sbin/nologin concordat \
 # A new named volume takes owner and mode of the directory that it is mounted on.
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/concordat /var/lib/concordat/exchange
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1
USER 10001:10001
WORKDIR /var/lib/concordat
VOLUME ["/var/lib/concordat"]
ENTRYPOINT ["concordat"]
CMD ["--help"]
