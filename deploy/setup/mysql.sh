#!/usr/bin/env bash
# Gets a real MySQL server for the tests, where the distribution has MariaDB only:
#   deploy/setup/mysql.sh [FOLDER]
# Unpacks Debian sid's mysql-server-core with all its libraries into FOLDER (by default
# /var/cache/crossdock/mysql), beside the system's own packages, from the mirror that apt uses.
# Needs root, apt, debootstrap and about 700 MB; does nothing when the server is there already.
# The server runs in place by its own loader, without chroot; see tests/harness/src/mysql.rs.
set -euo pipefail

folder=${1:-${CROSSDOCK_MYSQL:-/var/cache/crossdock/mysql}}
[ ! -x "$folder/usr/sbin/mysqld" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "Getting MySQL needs root: sudo $0 $folder" >&2
    exit 1
fi
command -v apt-get >/dev/null || { echo "Getting MySQL needs Debian or Ubuntu with apt" >&2; exit 1; }
command -v debootstrap >/dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
}

# The mirror of the distribution itself, not of its security updates or of anybody else.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' |
    awk '$2 == "Debian" { print $1; exit }')
[ -n "$mirror" ] || { echo "apt knows no mirror of Debian; see /etc/apt/sources.list.d" >&2; exit 1; }

echo "Getting MySQL into $folder (some minutes)"
mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The first stage downloads and checks; nothing of it is configured or run.
debootstrap --foreign --variant=minbase --include=mysql-server-core,mysql-client-core \
    sid "$work/root" "$mirror" >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
for package in "$work"/root/var/cache/apt/archives/*.deb; do
    dpkg-deb --extract "$package" "$work/root"
done
rm -rf "$work"/root/{debootstrap,var,boot,dev,proc,sys,usr/share/{doc,man,locale,info}}
chmod 755 "$work/root"
# A data folder that tests copy: making one takes longer than all else in starting a server.
if id mysql >/dev/null 2>&1; then
    root=$work/root
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
