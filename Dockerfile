# syntax=docker/dockerfile:1
#
#   docker build -t reconciler .                                  root inside, for Programs with `user`
#   docker build -t reconciler:user --target unprivileged .       everything as one user (--build-arg UID=1000)
#
#   docker run -v ./manifests:/etc/reconciler/manifests:ro -v reconciler:/var/lib/reconciler reconciler
#
# The keeper is pid 1: it reaps what others leave behind and passes signals on, so no init is needed. TERM drains
# everything in order and ends with 0; give `docker stop` the time for it. docs/containers.md tells more.

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
    PYTHONDONTWRITEBYTECODE=1 \
    RECONCILER_STATE_DIR=/var/lib/reconciler
RUN mkdir -p /etc/reconciler/manifests /var/lib/reconciler
STOPSIGNAL SIGTERM
# The daemon's own health: that a Program is not Available is no illness of the container. 50 ms of CPU each time.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD reconciler status --daemon || exit 1
ENTRYPOINT ["reconciler", "run"]
CMD ["-f", "/etc/reconciler/manifests"]

FROM base AS unprivileged
ARG UID=1000
RUN useradd --uid "$UID" --no-create-home --no-log-init --home-dir /var/lib/reconciler --shell /usr/sbin/nologin reconciler \
 && chown "$UID" /var/lib/reconciler
# After its owner is settled: what is changed in a volume later would be lost.
VOLUME /var/lib/reconciler
# By number: an orchestrator that wants no root has to see that this is none.
USER $UID

# The last stage is what a build without --target makes.
FROM base AS root
VOLUME /var/lib/reconciler
