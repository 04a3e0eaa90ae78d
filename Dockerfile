# The image of farlet: Debian's Python, the locked libraries, farlet. At run time farlet writes only to
# /tmp, so the root file system can be read-only.
#
#   docker build --tag REGISTRY/farlet:0.2.0 .
#
# A release is built by `make image`, which requires the base image's digest in base-images.lock
# (docs/supply-chain.md).
# The tests build the same files without a Docker daemon (tests/clusters/farletimage.py) and read packages,
# environment, user and command from the last stage below.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
RUN python3 -m venv /venv
WORKDIR /source
# The complete lock, because it pins the build backend; the image gets only what farlet needs at run time.
COPY requirements.lock requirements-image.lock ./
RUN /venv/bin/pip install --require-hashes --requirement requirements.lock
RUN /venv/bin/pip install --target /libraries --no-compile --no-deps --only-binary :all: \
      --require-hashes --requirement requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /venv/bin/pip install --target /libraries --no-compile --no-deps --no-index /wheels/*.whl
# Scripts in it refer to the Python interpreter of this stage; the command `farlet` gets that of the image.
RUN mkdir /commands \
 && sed '1s|^#!.*|#!/usr/bin/python3 -P|' /libraries/bin/farlet > /commands/farlet \
 && chmod 755 /commands/farlet \
 && rm -rf /libraries/bin

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /libraries /usr/local/lib/python3.13/dist-packages
COPY --from=build /commands /usr/local/bin
# Compile now; otherwise every container would compile at each start.
RUN python3 -m compileall -q -j 0 /usr/local/lib/python3.13/dist-packages
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
WORKDIR /
USER 65532:65532
ENTRYPOINT ["python3", "-P", "-m", "farlet"]
CMD ["run"]
