#!/bin/sh
# What the public image of PostgreSQL does at its start, as far as compose.yaml relies on it.
set -eu
[ "$1" = postgres ] || exec "$@"
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
data=/var/lib/postgresql/data
if [ ! -s "$data/PG_VERSION" ]; then
  chown postgres "$data" && chmod 700 "$data"
  setpriv --reuid=postgres --regid=postgres --init-groups \
    initdb -D "$data" -U "$POSTGRES_USER" -E UTF8 -A scram-sha-256 --pwfile "$POSTGRES_PASSWORD_FILE" >/dev/null
  echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
  PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE"); export PGPASSWORD
  as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
  as pg_ctl -D "$data" -w -o "-c listen_addresses= -c unix_socket_directories=/tmp" start
  as createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    as psql -q -h /tmp -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -f "$file"
  done
  as pg_ctl -D "$data" -w -m fast stop
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups "$@" -D "$data"
