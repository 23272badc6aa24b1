# One image for both commands, `normalizer` and `projector`; `--target demo` adds the simulator.
# Whatever is installed comes from the lock files, each file checked by its hash.
FROM python:3.13 AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/app
COPY requirements.lock requirements-dev.lock ./
RUN /opt/app/bin/pip install --require-hashes --requirement requirements.lock
# What builds the wheel and compiles the core is locked too, and stays behind in this stage.
RUN awk '/^[a-z]/ { wanted = /^(cython|setuptools)==/ } wanted' requirements-dev.lock > build.lock \
    && pip install --require-hashes --requirement build.lock
COPY pyproject.toml setup.py README.md LICENSE ./
COPY migrations migrations
COPY contract/vectors contract/vectors
COPY normalizer normalizer
COPY projector projector
# Maven brings the page's charting library, pinned by its hash, and stays behind too.
RUN apt-get update && apt-get install --yes --no-install-recommends maven
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/app/bin/pip install --no-deps dist/*.whl \
    && PYTHONPATH=$(python -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
        /opt/app/bin/python -m normalizer.compiled \
    && /opt/app/bin/pip uninstall --yes pip

FROM python:3.13-slim AS runtime
LABEL org.opencontainers.image.title="event-normalizer" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
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
