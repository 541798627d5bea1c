"""Memory of a CPU's worker: which layout a model gets, and which machine is lean."""

from __future__ import annotations

from batchneuron.backends import machine
from batchneuron.backends.cpu_memory import choose_layout, estimate_bytes, is_lean


def test_large_models_and_lean_machines_get_one_model_for_all_shapes():
    minilm, bert_large = 90 << 20, 1_340 << 20

    assert choose_layout(minilm, "bfloat16", is_open=False) == "static"
    assert choose_layout(minilm, "bfloat16", is_open=True) == "dynamic"
    assert choose_layout(bert_large, "bfloat16", is_open=False) == "dynamic"
    static, dynamic = (estimate_bytes(minilm, "bfloat16", layout) for layout in ("static", "dynamic"))
    assert 90 << 20 < dynamic < static / 2
    assert estimate_bytes(minilm, "float32", "static") > static


def test_a_machine_is_lean_by_its_size_not_by_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    cpus = len(machine.list_cpus())
    for per_cpu, expected in ((1 << 30, True), (2 << 30, False)):
        (tmp_path / "memory.max").write_text(str(per_cpu * cpus))
        (tmp_path / "memory.current").write_text(str(per_cpu * cpus))
        assert is_lean() is (expected or machine.total_memory_bytes() < 1.5 * cpus * 2**30)
