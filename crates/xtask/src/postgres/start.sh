# Starts PostgreSQL, as any user but root, with its data under /data. The first time it makes them: the database mcp_prod,
# settings from /files/*.conf, and what /files/*.sql tell a superuser, in their order. Nothing here survives a machine that
# fails: these are databases to break.
set -eu
for folder in /usr/lib/postgresql/*/bin; do PATH="$folder:$PATH"; done
export PATH TZ=GMT PGUSER=postgres PGHOST=/tmp
data=/data/postgresql
if ! [ -e /data/made ]; then
    initdb --pgdata="$data" --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
        --no-locale --encoding=UTF8 --no-sync >/dev/null
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    {
        echo "unix_socket_directories = '/tmp'"
        echo "listen_addresses = '*'"
        echo "fsync = off"
        echo "jit = off"
        echo "shared_buffers = 16MB"
        echo "include_dir '/files'"
    } >>"$data/postgresql.conf"
    pg_ctl start --pgdata="$data" --wait --silent --options="-c listen_addresses=''"
    psql --no-psqlrc --quiet --dbname=postgres --command="CREATE DATABASE mcp_prod"
    for file in /files/*.sql; do
        psql --no-psqlrc --quiet --dbname=mcp_prod --set=ON_ERROR_STOP=1 --file="$file"
    done
    pg_ctl stop --pgdata="$data" --mode=fast --wait --silent
    : >/data/made
fi
exec postgres -D "$data"
