#!/usr/bin/env bash
# Makes the image localhost/batchneuron-base: Debian 12 with its Python 3.11, from Debian's own packages.
# For checking an image where no registry can be reached:
#   scripts/base_image.sh && BUILD_FLAGS="--build-arg BASE=localhost/batchneuron-base" scripts/check_image.sh
# Needs debootstrap, and root.
set -euo pipefail
read -ra engine <<<"${ENGINE:-$(command -v docker || command -v podman)}"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}"
tar -C "$root" -c . | "${engine[@]}" import - localhost/batchneuron-base
