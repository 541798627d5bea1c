"""Words of optimum-neuron and of transformers 4.57 that are no options here: what they meant, or why not.

Old code runs as it is where such a word asks for nothing, or for what has another name now. No word is passed
over that would have changed an answer: it is refused, and told what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_ONE_CORE = ((None, 1), "a program runs on one core, and a job runs one on each")
_NO_SUCH_OUTPUTS = ((None, False), "the outputs are those of the task")
# What asks for nothing, and what to do where something else is asked for.
_IDLE: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "cache_dir": ((None,), "set HF_HUB_CACHE before Python starts"),
    "config": ((None,), "labels are those of the model's folder: save the configuration there"),
    "force_download": ((None, False), "run `hf download --force-download` first"),
    "framework": ((None, "pt"), "models are PyTorch's"),
    "instance_type": ((None,), "it is compiled for the chip of this machine"),
    "local_files_only": ((None, False), "set HF_HUB_OFFLINE=1 before Python starts"),
    "num_cores": _ONE_CORE,
    "output_attentions": _NO_SUCH_OUTPUTS,
    "output_hidden_states": _NO_SUCH_OUTPUTS,
    "subfolder": ((None, ""), "download the repository, and give that folder of it"),
    "tensor_parallel_size": _ONE_CORE,
}
# Whatever they say: any number of rows is taken, weights stay where they are, and artifacts are always kept.
_WITHOUT_EFFECT = frozenset(
    {"compiler_workdir", "disable_fallback", "disable_fast_relayout", "disable_neuron_cache"}
    | {"dynamic_batch_size", "inline_weights_to_neff"}
)
_RENAMED: Mapping[tuple[str, str], Callable[[Any], tuple[str, Any]]] = {
    ("question-answering", "topk"): lambda value: ("top_k", value),
    ("token-classification", "grouped_entities"): lambda value: (
        "aggregation_strategy",
        "simple" if value else "none",
    ),
    ("zero-shot-classification", "multi_class"): lambda value: ("multi_label", value),
}


def pass_over(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without the words that ask for nothing.

    Raises:
        ValueError: one of these words asks for something.
    """
    for name, value in options.items():
        nothing, instead = _IDLE.get(name, ((value,), ""))
        if value not in nothing:
            raise ValueError(f"{name}={value!r} is not possible: {instead}")
    return {
        name: value for name, value in options.items() if name not in _WITHOUT_EFFECT and name not in _IDLE
    }


def rename(task: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A task's options under their newer names; one that is also given by that name is as it says there."""
    older = {name: value for name, value in options.items() if (task, name) in _RENAMED}
    newer = {name: value for name, value in options.items() if name not in older}
    meant = dict(_RENAMED[task, name](value) for name, value in older.items() if value is not None)
    return {**meant, **newer}
