#!/usr/bin/env bash
# Installs Vendure from npm below target/, and tries the connector on it; see docs/connectors.md.
#   tests/connectors/vendure/run.sh
set -euo pipefail

install_system() {
    cp "$here/package.json" "$folder"
    npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$folder" >/dev/null
}

. "$(dirname "$0")/../installed.sh" package.json
"$target/debug/crossdock-connectors" mariadb connectors/vendure "$here" -- \
    node "$here/drive.js" "$folder/node_modules"
