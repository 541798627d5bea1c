#!/usr/bin/env bash
# Makes .venv with batchneuron and an extra of pyproject.toml: `cpu` for `make demo`, `dev` for all else; and for
# `make lowering` with VENV=.venv-lowering TORCH_SERIES=2.9.
# Torch first, as a CPU build: from the plain index, torch brings gigabytes of CUDA along.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${1:-dev}
venv=${VENV:-.venv}
series=${TORCH_SERIES:-}
torch="torch${series:+==$series.*}"

find_python() {
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "setup needs Python 3.11, 3.12 or 3.13; name it with PYTHON=/path/to/python3 make setup" >&2
    exit 1
}

install_torch() {
    if "$pip" show --quiet torch 2>/dev/null; then
        return
    fi
    # 1. A CPU build that pip already sees. 2. PyTorch's own CPU index. 3. Whatever there is.
    local seen
    seen=$("$pip" index versions torch 2>/dev/null | grep -oE "\b${series//./\\.}[0-9.]*\+cpu" | head -n 1 || true)
    if [ -n "$seen" ] && "$pip" install --quiet "torch==$seen"; then
        return
    fi
    if "$pip" install --quiet --retries 1 --timeout 15 "$torch" --index-url https://download.pytorch.org/whl/cpu; then
        return
    fi
    echo "no CPU build of torch in reach: taking the default one, which is large" >&2
    "$pip" install --quiet "$torch"
}

python=$(find_python)
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=$venv/bin/pip
export PIP_DISABLE_PIP_VERSION_CHECK=1
echo "installing into $venv ($("$python" --version)); the first time takes some minutes"
install_torch
"$pip" install --quiet --editable ".[$extra]" "$torch"
touch "$venv/ready-$extra"
echo "ready: $venv/bin/batchneuron --help"
