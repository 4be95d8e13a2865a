#!/usr/bin/env bash
# Installs Vendure from npm below target/, and tries the connector on it; see docs/connectors.md.
#   tests/connectors/vendure/run.sh
set -euo pipefail

here=$(realpath --relative-to=. "$(dirname "$0")")
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
wanted=$(sha256sum "$here/package.json" | cut -c1-12)
folder=$target/connectors/vendure/$wanted

# The folder appears only when it is whole.
if [ ! -e "$folder/ready" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$here/package.json" "$folder"
    npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$folder" >/dev/null
    touch "$folder/ready"
fi

"$target/debug/crossdock-connectors" mariadb connectors/vendure "$here" -- \
    node "$here/drive.js" "$folder/node_modules"
