#!/usr/bin/env bash
# Builds the cpu image and runs it as a job is run: no network, read-only root, not as root, stopped by SIGTERM.
# Without arguments, with docker or podman; ENGINE, BUILD_FLAGS and RUN_FLAGS are put where their names say:
#   ENGINE="podman --runtime runc" RUN_FLAGS="--ulimit nofile=4096" scripts/check_image.sh
# IMAGE=name checks an image that is built already. Where no registry can be reached, scripts/base_image.sh makes a base
# image from Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/.."

image=${IMAGE:-batchneuron-check:cpu}
read -ra engine <<<"${ENGINE:-$(command -v docker || command -v podman || true)}"
read -ra build_flags <<<"${BUILD_FLAGS:-}"
read -ra run_flags <<<"${RUN_FLAGS:-}"
[ "${#engine[@]}" -gt 0 ] || { echo "needs docker or podman; or name one in ENGINE" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
install -d -m 0777 "$scratch/out"

tell() { echo "ok    $*"; }
fail() { echo "FAIL  $*" >&2; exit 1; }

# As docs/docker.md says, with the output on this machine's disk.
run() {
    "${engine[@]}" run --read-only --network none --cap-drop ALL --security-opt no-new-privileges \
        --tmpfs /scratch --volume "$PWD:/work:ro" --volume "$scratch/out:/out" \
        "${run_flags[@]}" "$@"
}

expect() {
    local wanted=$1 code=0
    shift
    run --rm "$image" "$@" >"$scratch/told" 2>&1 || code=$?
    [ "$code" = "$wanted" ] || { cat "$scratch/told" >&2; fail "batchneuron $1: exit code $code, not $wanted"; }
    tell "batchneuron $1 ends with exit code $code"
}

if [ -z "${IMAGE:-}" ]; then
    "${engine[@]}" build "${build_flags[@]}" --file docker/cpu/Dockerfile --tag "$image" \
        --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" .
    tell "built $image"
fi

inside=$(run --rm --entrypoint /bin/sh "$image" -c '
    id -u; touch /x 2>/dev/null && echo "root is writable"
    for tool in pip gcc git curl; do command -v "$tool"; done' || true)
[ "$inside" = 10001 ] || fail "expected uid 10001, a read-only root and no tools; found: $inside"
tell "uid 10001, read-only root, neither pip nor a compiler"
"${engine[@]}" image inspect "$image" | grep '"org.opencontainers.image.licenses": "Apache-2.0"' >/dev/null \
    || fail "no labels"
tell "labelled"

expect 0 --version
expect 0 validate jobs/quickstart.yaml
expect 2 validate jobs/quickstart.yaml --set task=guess
expect 65 plan jobs/quickstart.yaml --set input.path=nowhere.parquet
expect 0 run jobs/quickstart.yaml --limit 300 --set backend.workers=2 --set output.path=/out/few
[ -f "$scratch/out/few/.batchneuron/manifest.json" ] || fail "no manifest"

# Stopped in the middle: exit code 75, and what is committed stays. Eager PyTorch on one core takes long enough.
long=(run jobs/quickstart.yaml --set backend.kind=torch --set backend.workers=1
    --set output.path=/out/all --set output.shard_rows=500)
name=batchneuron-check-$$
run --detach --name "$name" "$image" "${long[@]}" >/dev/null
[ "$("${engine[@]}" exec "$name" cat /proc/1/comm)" = tini ] || fail "PID 1 is not tini"
tell "PID 1 is tini"
for _ in $(seq 600); do
    compgen -G "$scratch/out/all/data/*.parquet" >/dev/null && break
    sleep 0.5
done
"${engine[@]}" stop --time 120 "$name" >/dev/null
code=$("${engine[@]}" wait "$name")
"${engine[@]}" logs "$name" >"$scratch/told" 2>&1
"${engine[@]}" rm "$name" >/dev/null
[ "$code" = 75 ] || { cat "$scratch/told" >&2; fail "SIGTERM: exit code $code, not 75"; }
parts=$(find "$scratch/out/all/data" -name '*.parquet' | wc -l)
tell "SIGTERM ends a run with exit code 75; $parts parts are committed"
expect 0 "${long[@]}"
[ "$(stat -c %u "$scratch/out/all/.batchneuron/manifest.json")" = 10001 ] || fail "the manifest is not uid 10001's"
tell "the same command finishes it"
