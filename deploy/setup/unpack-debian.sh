#!/usr/bin/env bash
# Unpacks packages of a Debian release with all their libraries into a folder, beside the system's
# own packages, from the mirror that apt uses. Nothing of them is configured or run.
#   deploy/setup/unpack-debian.sh SUITE PACKAGE,PACKAGE… FOLDER
# Needs root, apt and debootstrap (which it installs). The folder appears only when it is whole.
set -euo pipefail

suite=$1
packages=$2
folder=$3

if [ "$(id -u)" -ne 0 ]; then
    echo "Unpacking packages of Debian needs root: sudo $0 $*" >&2
    exit 1
fi
command -v apt-get >/dev/null || { echo "Needs Debian or Ubuntu with apt: $packages" >&2; exit 1; }
command -v debootstrap >/dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
}

# The mirror of the distribution itself, not of its security updates or of anybody else.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' |
    awk '$2 == "Debian" { print $1; exit }')
[ -n "$mirror" ] || { echo "apt knows no mirror of Debian; see /etc/apt/sources.list.d" >&2; exit 1; }

mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The first stage downloads and checks.
debootstrap --foreign --variant=minbase --include="$packages" \
    "$suite" "$work/root" "$mirror" >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
for package in "$work"/root/var/cache/apt/archives/*.deb; do
    dpkg-deb --extract "$package" "$work/root"
done
rm -rf "$work"/root/{debootstrap,var,boot,dev,proc,sys,usr/share/{doc,man,locale,info}}
chmod 755 "$work/root"
rm -rf "$folder"
mv "$work/root" "$folder"
