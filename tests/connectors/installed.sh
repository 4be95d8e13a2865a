#!/usr/bin/env bash
# Where a connector's system is installed: below target/, once for each list of what it consists
# of. To be sourced by the run.sh beside a connector, with the name of that list:
#   . tests/connectors/installed.sh requirements.txt
# It gives $here, $target and $folder, and runs `install_system`, which the caller defines before,
# unless the folder is whole already.

here=$(realpath --relative-to=. "$(dirname "${BASH_SOURCE[1]}")")
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
wanted=$(sha256sum "$here/$1" | cut -c1-12)
folder=$target/connectors/$(basename "$here")/$wanted

# The folder appears only when it is whole.
if [ ! -e "$folder/ready" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    install_system
    touch "$folder/ready"
fi
