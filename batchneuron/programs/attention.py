"""Attention that every compiler can take: a mask that is always there, and finite.

As transformers has it, a batch without padding gets no mask at all. On the lazy device that
`torch_neuronx.trace` uses, that question is asked while the program is traced: the program is frozen with the
answer for the example. And the numbers that a mask is made of are the lowest of float32, which become
-infinity where a compiler computes in bfloat16, and NaN where a whole row of a mask is made of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "batchneuron"
# Far below any score (MobileBERT's reach a hundred thousand); twice it is still finite in bfloat16.
MASKED = -1e30
_FILLS = {torch.masked_fill, torch.Tensor.masked_fill, torch.Tensor.masked_fill_}


def use_finite_masks(model: Any) -> None:
    """Have a loaded transformers model mask and attend as this module says: the same bits on a CPU.

    Models that build their masks themselves are left as they are, and so are those that transformers gives
    neither of its two usual implementations.
    """
    chosen = getattr(model.config, "_attn_implementation", None)
    # Without SDPA, attention is either no function of the interface, or one that only its model has.
    if chosen == "sdpa" or (chosen == "eager" and not model._can_set_attn_implementation()):
        AttentionMaskInterface.register(_NAME, make_mask)
        AttentionInterface.register(_NAME, attend)
        model.config._attn_implementation = _NAME
    for module in model.modules():
        if type(module).__name__ == "DisentangledSelfAttention":
            module.register_forward_pre_hook(_mask_keys_alone)


def make_mask(*, dtype: torch.dtype = torch.float32, **arguments: Any) -> torch.Tensor:
    """What is added to scores: 0 where a token is seen, `MASKED` elsewhere: [B, 1, L, L]."""
    skips = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    seen = sdpa_mask(**{**arguments, **skips})
    nothing, masked = (torch.full((), value, dtype=dtype, device=seen.device) for value in (0.0, MASKED))
    return torch.where(seen, nothing, masked)


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **settings: Any
) -> tuple[torch.Tensor, None]:
    """Attention's output [B, L, heads, H] of [B, heads, L, H] each, by torch's own function.

    torch_xla takes that apart into a softmax which looks for rows of -infinity by a reduction with `and`;
    neuronx-cc reduces with min, max, add and mul alone. On its device it is spelt out instead.
    """
    is_causal = mask is None and getattr(module, "is_causal", False)
    if query.device.type != "xla" or is_causal:
        attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, mask, **settings
        )
        return attended
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scale = settings.get("scaling") or query.shape[-1] ** -0.5
    scores = query @ key.transpose(-1, -2) * scale
    for added in (mask, settings.get("position_bias")):
        scores = scores if added is None else scores + added
    weights = scores.softmax(-1, dtype=torch.float32)
    return (weights.to(value.dtype) @ value).transpose(1, 2).contiguous(), None


class FiniteFills(TorchFunctionMode):
    """For tracing on torch_xla's device: `masked_fill` fills with a number of the tensor's type.

    torch_xla makes it a float64, which neuronx-cc has not, and models fill with the lowest float32.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The call, with `MASKED` for anything lower."""
        if function in _FILLS and len(args) == 3 and isinstance(args[2], float):
            tensor, mask, value = args
            number = torch.tensor(max(value, MASKED), dtype=tensor.dtype, device=tensor.device)
            args = (tensor, mask, number)
        return function(*args, **(kwargs or {}))


def _mask_keys_alone(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """DeBERTa's mask [B, 1, L, L] hides all keys from padding; let padding see what the text sees.

    What padding computes is never looked at, as long as it is no NaN, which a later layer would spread.
    """
    hidden, mask, *others = inputs
    return (hidden, mask[:, :, :1, :].expand_as(mask), *others)
