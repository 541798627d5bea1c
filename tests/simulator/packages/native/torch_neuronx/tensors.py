"""Tensors of the device: each has a host tensor behind it, and every operator runs there.

A device tensor owns a storage without memory; a table maps storages to host tensors. Operators come in
through PyTorch's fallback for PrivateUse1.
"""

import functools

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree

from torch_neuronx import device

_SWEEP_EVERY = 512
_KERNELS = ("CompositeExplicitAutogradNonFunctional", "CompositeExplicitAutograd")
_OWN = {"empty.memory_format", "empty_strided", "_copy_from", "_to_copy"}
_MIXED = {"aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put_", "aten::set_"}
_hosts = {}
_executed = set()
_fallback = set()
_libraries = []


def to_device(host):
    """A device tensor with that host tensor behind it."""
    device.init()
    made = torch._C._acc.create_empty_tensor(tuple(host.shape), host.dtype)
    storage = made.untyped_storage()
    _hosts[storage._cdata] = (StorageWeakRef(storage), host.contiguous())
    if len(_hosts) % _SWEEP_EVERY == 0:
        for key in [key for key, (reference, _) in _hosts.items() if reference.expired()]:
            del _hosts[key]
    return made


def is_on_device(value):
    return isinstance(value, torch.Tensor) and value.device.type == "neuron"


def to_host(value):
    """What stands behind a device tensor; a device becomes the CPU; all else stays."""
    if is_on_device(value):
        return _hosts[value.untyped_storage()._cdata][1]
    if isinstance(value, torch.device) and value.type == "neuron":
        return torch.device("cpu")
    return value


def run(operator, *arguments, **named):
    """Run an operator on the hosts, and give back device tensors."""
    _executed.add(operator._schema.name)
    _require_one_device(operator, _pytree.tree_leaves((arguments, named)))
    on_host, named_on_host = _pytree.tree_map(to_host, (arguments, named))
    made = operator(*on_host, **named_on_host)
    schema = operator._schema.arguments
    given = [(spec, value) for spec, value in zip(schema, arguments, strict=False)]
    given += [(spec, named[spec.name]) for spec in schema if spec.name in named]
    written = [value for spec, value in given if spec.alias_info and spec.alias_info.is_write]
    if written and any(each.alias_info and each.alias_info.is_write for each in operator._schema.returns):
        return written[0] if len(written) == 1 else tuple(written)
    return _pytree.tree_map(
        lambda value: to_device(value) if isinstance(value, torch.Tensor) else value, made
    )


def _require_one_device(operator, values):
    """Copies go between devices, indices may be on the host, and a scalar may be anywhere."""
    if operator._schema.name in _MIXED:
        return
    if any(isinstance(each, torch.Tensor) and each.device.type == "cpu" and each.ndim for each in values):
        raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices")


def _empty(size, *, dtype=None, **_):
    return to_device(torch.empty(size, dtype=dtype))


def _empty_strided(size, _stride, *, dtype=None, **_others):
    return to_device(torch.empty(size, dtype=dtype))


def _copy_from(source, target, _non_blocking=False):
    to_host(target).copy_(to_host(source))
    return target


def _attend(query, key, value, mask=None, dropout=0.0, is_causal=False, *, scale=None, enable_gqa=False):
    hosts = [to_host(each) for each in (query, key, value, mask)]
    attend = torch.nn.functional.scaled_dot_product_attention
    return to_device(attend(*hosts, dropout, is_causal, scale=scale, enable_gqa=enable_gqa))


def register():
    """Give PrivateUse1 its kernels."""
    rest, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    _libraries.extend([rest, aten])  # kernels live as long as their library
    rest.fallback(run, "PrivateUse1")
    aten.impl("empty.memory_format", _empty, "PrivateUse1")
    aten.impl("empty_strided", _empty_strided, "PrivateUse1")
    aten.impl("_copy_from", _copy_from, "PrivateUse1")
    aten.impl("scaled_dot_product_attention", _attend, "PrivateUse1")
    for name in _list_resizing():
        base, _, overload = name.partition(".")
        operator = getattr(getattr(torch.ops.aten, base), overload or "default")
        if not any(each.alias_info for each in operator._schema.arguments):
            aten.impl(name, functools.partial(run, operator), "PrivateUse1")


def _list_resizing():
    """Operators that PyTorch would make of an empty output and a resize, which these tensors cannot."""
    for full in torch._C._dispatch_get_all_op_names():
        name = full.removeprefix("aten::")
        composite = any(torch._C._dispatch_has_kernel_for_dispatch_key(full, kernel) for kernel in _KERNELS)
        if name != full and name not in _OWN and composite:
            yield name


def note_fallback(names):
    _fallback.update(names)


def get_fallback_ops():
    return sorted(_fallback)


def get_executed_ops():
    return sorted(_executed - _fallback)


def clear_op_tracking():
    _executed.clear()
    _fallback.clear()
