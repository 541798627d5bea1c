#!/usr/bin/env bash
# Writes docker/requirements.txt and docker/cpu/requirements.txt: every package of the images with its hashes,
# for Python 3.11 to 3.13. Needs uv; run it after a change of the dependencies in pyproject.toml.
# Not in them: torch and numpy, whose versions each image chooses (neuronx-cc is particular about numpy).
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Torch's own needs, less the gigabytes that its default build brings.
printf '%s\n' filelock fsspec jinja2 networkx setuptools sympy typing-extensions >"$scratch/torch-needs.in"
echo 'torch ; python_version < "3"' >"$scratch/overrides.txt"

lock() {
    local out=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --exclude-newer "${COOLDOWN:-$(date -u -d '7 days ago' +%F)}" \
        --override "$scratch/overrides.txt" --no-emit-package numpy "$@" \
        --output-file "$scratch/lock" pyproject.toml "$scratch/torch-needs.in"
    { echo "# Made by scripts/lock_images.sh; do not edit."; cat "$scratch/lock"; } >"$out"
    rm "$scratch/lock"
    echo "$out: $(grep -c '==' "$out") packages"
}

lock docker/requirements.txt --extra aws
lock docker/cpu/requirements.txt --extra aws --extra cpu
