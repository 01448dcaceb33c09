# PostgreSQL, Redis and nginx in one, in place of their public images (tests/deploy/containers.py).
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      postgresql redis-server nginx-light >/dev/null \
 && rm -f /etc/nginx/sites-enabled/default
COPY --chmod=755 entrypoint.sh /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
