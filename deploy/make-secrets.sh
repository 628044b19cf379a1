#!/bin/sh
# Makes every party's passphrase and database password as files below deploy/secrets, each readable by one user only.
# Run once, as root (owners are set): sh deploy/make-secrets.sh. Nothing that exists is replaced.
# Between real institutions each party makes its own, on its own machine; this is for one machine.
set -eu
umask 077
cd "$(dirname "$0")"
CONCORDAT=10001 # the image's user
POSTGRES=999    # the user of PostgreSQL's official image

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

for party in coordinator bank-1 bank-2 bank-3 e-commerce government compute; do
  folder=secrets/$party
  mkdir -p "$folder"
  [ -e "$folder/passphrase" ] || random >"$folder/passphrase"
  if [ ! -e "$folder/database-password" ]; then
    random >"$folder/database-password"
    # libpq's format: host:port:database:user:password
    printf '*:*:*:*:%s\n' "$(cat "$folder/database-password")" >"$folder/pgpass"
  fi
  chmod 0400 "$folder"/*
  chown $CONCORDAT:$CONCORDAT "$folder/passphrase" "$folder/pgpass"
  chown $POSTGRES:$POSTGRES "$folder/database-password"
done
chmod 0711 secrets secrets/*
