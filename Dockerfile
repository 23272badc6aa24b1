# One image for both commands, `normalizer` and `projector`; `--target demo` adds the simulator.
# Whatever is installed comes from the lock files, each file checked by its hash. One state of the
# sources on one base gives the same files each time: docs/releasing.md.
ARG PYTHON=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON} AS build
WORKDIR /build
# Bytecode is written once, by compileall: Python's own holds the time at which pip wrote a source.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\n' > base-packages.txt
# Maven brings the page's charting library, pinned by its hash; cargo builds the native lane. Both stay
# behind in this stage.
RUN apt-get update && apt-get install --yes --no-install-recommends binutils cargo maven
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/tools && python -m venv --without-pip /opt/app \
    && /opt/tools/bin/pip install --require-hashes --requirement requirements-build.lock \
    && /opt/tools/bin/pip --python /opt/app/bin/python install --no-compile \
        --require-hashes --requirement requirements.lock
# Half of a library's size is for debuggers.
RUN find /opt/app/lib -name "*.so" -exec strip --strip-debug {} +
COPY pyproject.toml setup.py README.md LICENSE ./
COPY normalizer normalizer
COPY migrations migrations
COPY contract/vectors contract/vectors
COPY projector projector
COPY native native
# The time in the wheel, of which pip keeps the hash; 1980 is the first that a wheel can hold.
ARG SOURCE_DATE_EPOCH=315532800
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . ./native \
    && /opt/tools/bin/pip --python /opt/app/bin/python install --no-compile --no-deps dist/*.whl \
    && /opt/app/bin/normalizer --version | grep "core: native" \
    && /opt/app/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/app/lib
COPY release/sbom.py release/
RUN /opt/tools/bin/cyclonedx-py environment --output-reproducible --gather-license-texts \
        --pyproject pyproject.toml --mc-type application /opt/app/bin/python \
    | /opt/tools/bin/python release/sbom.py base-packages.txt > /opt/app/sbom.cdx.json

FROM ${PYTHON} AS runtime
ARG PYTHON
ARG SOURCE_DATE_EPOCH=315532800
ARG REVISION=unknown
LABEL org.opencontainers.image.title="event-normalizer" \
      org.opencontainers.image.description="Workflow events from Kafka to PostgreSQL, exactly once" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON}"
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin app
COPY --from=build /opt/app /opt/app
ENV PATH=/opt/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
ENTRYPOINT []
CMD ["normalizer", "run"]

FROM runtime AS demo
WORKDIR /opt/demo
COPY simulator simulator

# The last stage is what `docker build .` makes: without the simulator.
FROM runtime AS service
