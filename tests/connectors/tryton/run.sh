#!/usr/bin/env bash
# Installs Tryton from PyPI below target/, and tries the connector on it; see docs/connectors.md.
#   tests/connectors/tryton/run.sh
set -euo pipefail

install_system() {
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
}

. "$(dirname "$0")/../installed.sh" requirements.txt
"$target/debug/crossdock-connectors" postgres connectors/tryton "$here" -- \
    "$folder/venv/bin/python" "$here/drive.py" "$folder/empty.sql"
