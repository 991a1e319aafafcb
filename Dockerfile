# syntax=docker/dockerfile:1
#
#   docker build -t reconciler .                          root inside, for Programs with `user`
#   docker build -t reconciler --target unprivileged .    everything as one user
#
#   docker run -v ./manifests:/etc/reconciler/manifests:ro -v reconciler:/var/lib/reconciler reconciler
#
# The keeper is pid 1: it reaps what others leave behind and passes signals on, so no init is needed. TERM drains
# everything in order; give `docker stop` a time-out to match (`--stop-timeout`).

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY reconciler reconciler
RUN python -m venv /opt/reconciler \
 && /opt/reconciler/bin/pip install --no-cache-dir --disable-pip-version-check . \
 && /opt/reconciler/bin/python -m compileall -q /opt/reconciler

FROM python:3.12-slim AS base
COPY --from=build /opt/reconciler /opt/reconciler
ENV PATH=/opt/reconciler/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RECONCILER_STATE_DIR=/var/lib/reconciler
RUN mkdir -p /etc/reconciler/manifests /var/lib/reconciler
VOLUME /var/lib/reconciler
STOPSIGNAL SIGTERM
# Answers once the first pass is done; exit code 1 (a Program is not Available) is not the container's illness.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD reconciler status --daemon >/dev/null || exit 1
ENTRYPOINT ["reconciler", "run"]
CMD ["-f", "/etc/reconciler/manifests"]

FROM base AS unprivileged
RUN useradd --system --uid 1000 --home-dir /var/lib/reconciler --shell /usr/sbin/nologin reconciler \
 && chown reconciler: /var/lib/reconciler
USER reconciler

# The last stage is what a build without --target makes.
FROM base AS root
