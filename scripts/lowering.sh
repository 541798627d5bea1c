#!/usr/bin/env bash
# Every program through the front ends of both Neuron stacks, on this CPU; then the quick tests on PyTorch 2.9.
# Used by `make lowering`. Arguments name a task, an architecture, or both. See docs/lowering.md.
set -euo pipefail
cd "$(dirname "$0")/.."

# PyTorch 2.9 is the last one of torch_neuronx's XLA stack; torch_xla is its front end.
venv=.venv-lowering
if [ ! -e "$venv/ready" ] || [ pyproject.toml -nt "$venv/ready" ]; then
    VENV=$venv TORCH_SERIES=2.9 scripts/setup.sh
fi
"$venv/bin/pip" show --quiet torch_xla 2>/dev/null || "$venv/bin/pip" install --quiet 'torch_xla==2.9.*'

failed=0
export PYTHONWARNINGS=ignore TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
echo "== the native stack's front end: torch.export and torch.compile"
.venv/bin/python -m lowering native "$@" || failed=1
echo "== the XLA stack's front end: torch_xla"
# Less optimisation by XLA's own CPU compiler, whose speed does not matter here.
PJRT_DEVICE=CPU XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true" \
    "$venv/bin/python" -m lowering xla "$@" || failed=1
if [ $# -eq 0 ]; then
    echo "== the quick tests on PyTorch 2.9"
    "$venv/bin/python" -m pytest tests/programs/test_program.py tests/backends/test_torch.py tests/tasks || failed=1
fi
exit $failed
