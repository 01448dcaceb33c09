# A Debian that systemd starts, with what the wheel's section of docs/deploy.md installs.
ARG BASE
ARG LINEKEEPER
FROM ${LINEKEEPER} AS installed
FROM ${BASE}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      systemd systemd-sysv dbus >/dev/null
COPY --from=installed /opt/linekeeper /opt/linekeeper
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
