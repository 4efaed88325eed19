#!/bin/sh
# Installs the Debian packages that a file names, one a line, while the image is built. No file, no packages.
set -eu
[ -f "$1" ] || exit 0
packages=$(sed 's/#.*//' "$1")
# shellcheck disable=SC2086 # several words
set -- $packages
[ $# -gt 0 ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "$@"
apt-get clean
rm -rf /var/lib/apt/lists/*
