#!/usr/bin/env bash
# Installs Tryton from PyPI below target/, and tries the connector on it; see docs/connectors.md.
#   tests/connectors/tryton/run.sh
set -euo pipefail

here=$(realpath --relative-to=. "$(dirname "$0")")
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
wanted=$(sha256sum "$here/requirements.txt" | cut -c1-12)
folder=$target/connectors/tryton/$wanted

# The folder appears only when it is whole.
if [ ! -e "$folder/ready" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    touch "$folder/ready"
fi

"$target/debug/crossdock-connectors" postgres connectors/tryton "$here" -- \
    "$folder/venv/bin/python" "$here/drive.py" "$folder/empty.sql"
