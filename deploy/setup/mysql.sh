#!/usr/bin/env bash
# Gets a real MySQL server for the tests, where the distribution has MariaDB only:
#   deploy/setup/mysql.sh [FOLDER]
# Unpacks Debian sid's mysql-server-core with all its libraries into FOLDER (by default
# /var/cache/crossdock/mysql), see unpack-debian.sh. Needs root and about 700 MB; does nothing when
# the server is there already.
# The server runs in place by its own loader, without chroot; see tests/harness/src/mysql.rs.
set -euo pipefail

folder=${1:-${CROSSDOCK_MYSQL:-/var/cache/crossdock/mysql}}
[ ! -x "$folder/usr/sbin/mysqld" ] || exit 0

echo "Getting MySQL into $folder (some minutes)"
mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
"$(dirname "$0")/unpack-debian.sh" sid mysql-server-core,mysql-client-core "$root"
# A data folder that tests copy: making one takes longer than all else in starting a server.
if id mysql >/dev/null 2>&1; then
    chmod 755 "$work"
    mkdir "$work/template"
    chown mysql "$work/template"
    (cd "$work/template" && setpriv --reuid=mysql --regid=mysql --clear-groups \
        "$root/lib64/ld-linux-x86-64.so.2" \
        --library-path "$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu/private" \
        "$root/usr/sbin/mysqld" --no-defaults --basedir="$root/usr" \
        --lc-messages-dir="$root/usr/share/mysql" --innodb-redo-log-capacity=64M \
        --datadir="$work/template/data" --initialize-insecure) >"$work/log" 2>&1 ||
        { tail -20 "$work/log" >&2; exit 1; }
    mv "$work/template/data" "$root/template"
fi
rm -rf "$folder"
mv "$work/root" "$folder"
