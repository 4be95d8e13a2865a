#!/usr/bin/env bash
# Installs what is missing of the system packages that building, tests and the demo need, and
# with the argument `java` a compiler for benchmarks against Debezium, with `tryton` Python, with
# `vendure` Node.js for the tests of these connectors.
# The packages' own servers are not started: Crossdock's tests and demo start private ones.
set -euo pipefail

missing=()
need() { # need PACKAGE CONDITION...: the package is missing unless the condition holds
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
postgres_server() { compgen -G '/usr/lib/postgresql/*/bin/initdb'; }

need gcc command -v cc
need libc6-dev test -e /usr/include/stdio.h
need postgresql postgres_server
need postgresql-client command -v psql
need mariadb-server test -x /usr/sbin/mariadbd
need mariadb-client command -v mariadb
need procps command -v pgrep
[ "${1:-}" != java ] || need openjdk-17-jdk-headless command -v javac
[ "${1:-}" != vendure ] || need nodejs command -v node
[ "${1:-}" != vendure ] || need npm command -v npm
[ "${1:-}" != tryton ] || need python3-venv python3 -c 'import ensurepip, venv'

[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && command -v sudo >/dev/null; }; then
        echo "These packages are missing and need root to install: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "Installing: ${missing[*]}"
# Packages ask policy-rc.d whether they may start their service; for now they may not.
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
    "${as_root[@]}" chmod 755 $policy
    made_policy=yes
fi
finish() { [ -z "$made_policy" ] || "${as_root[@]}" rm -f $policy; }
trap finish EXIT
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
