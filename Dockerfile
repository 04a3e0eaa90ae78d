# The image of farlet: Debian's Python, the locked libraries, farlet. Nothing in it is written to at
# run time but /tmp, so the root file system may be read-only.
#
#   docker build --tag REGISTRY/farlet:0.1.0 .
#
# For builds that can be repeated, pin the base: --build-arg BASE=debian:trixie-slim@sha256:...
# The tests build the same files without a daemon (tests/clusters/farletimage.py), and take packages,
# environment, user and command from the last stage below.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
RUN python3 -m venv /venv
WORKDIR /source
# The whole lock, for the build backend that it pins; the image gets only what farlet needs to run.
COPY requirements.lock requirements-image.lock ./
RUN /venv/bin/pip install --require-hashes --requirement requirements.lock
RUN /venv/bin/pip install --target /libraries --no-compile --no-deps --only-binary :all: \
      --require-hashes --requirement requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /venv/bin/pip install --target /libraries --no-compile --no-deps --no-index /wheels/*.whl
# Their commands name the interpreter of this stage.
RUN rm -rf /libraries/bin

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /libraries /usr/local/lib/python3.13/dist-packages
# Compiled beforehand: a container would compile anew at each start.
RUN python3 -m compileall -q -j 0 /usr/local/lib/python3.13/dist-packages
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
WORKDIR /
USER 65532:65532
ENTRYPOINT ["python3", "-P", "-m", "farlet"]
CMD ["run"]
