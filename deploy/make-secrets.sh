#!/bin/sh
# Makes what compose.yaml, the systemd units and the Kubernetes manifests read as files: once, into
# the folder named (default: deploy/secrets). Nothing that is there is changed. Keep a copy where
# you keep passwords: without the keys the database can't be read.
set -eu
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"  # the files themselves are read by the containers' own users
umask 022
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
key() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }
keep() { [ -e "$folder/$1" ] || cat > "$folder/$1"; }

random | keep postgres_password
random | keep prefect_password
key | keep linekeeper_encryption_keys
key | keep prefect_encryption_key
database=$(cat "$folder/postgres_password")
login="admin:$(cat "$folder/prefect_password")"
keep linekeeper_database_url <<END
postgresql+asyncpg://linekeeper:$database@postgres/linekeeper
END
keep prefect.toml <<END
active = "linekeeper"
[profiles.linekeeper]
PREFECT_API_AUTH_STRING = "$login"
END
keep prefect-server.toml <<END
active = "linekeeper"
[profiles.linekeeper]
PREFECT_SERVER_API_AUTH_STRING = "$login"
PREFECT_API_DATABASE_CONNECTION_URL = "postgresql+asyncpg://linekeeper:$database@postgres/prefect"
END
