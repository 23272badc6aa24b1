# One image for both commands. Dependencies come from the lock file, hashes checked.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/app
COPY requirements.lock .
RUN /opt/app/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY normalizer normalizer
COPY projector projector
COPY simulator simulator
RUN /opt/app/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home app
COPY --from=build /opt/app /opt/app
ENV PATH=/opt/app/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
ENTRYPOINT []
CMD ["normalizer", "run"]
