"""Callers of the native stack, right ones and wrong ones."""

import os
import sys
import warnings
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import torch

from tests.simulator.callers import main

import torch_neuronx  # isort: skip  # after torch, which has imported it already


class Scores(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, ids, mask):
        return (self.head(self.embed(ids) * mask[..., None]).sum(1).tanh(),)


torch.manual_seed(0)
torch.set_grad_enabled(False)
WAS_INITIALIZED = torch.neuron.is_initialized()
CPU = Scores().eval()
MODEL = Scores().eval()
MODEL.load_state_dict(CPU.state_dict())
MODEL.to("neuron")
IDS, MASK = torch.arange(10).reshape(2, 5), torch.ones(2, 5, dtype=torch.int64)
COMPILED = torch.compile(MODEL, backend="neuron", fullgraph=True)


def run(model, *inputs):
    made = model(*(each.to("neuron") for each in inputs))[0]
    torch.neuron.synchronize()
    return made.cpu()


def is_close(made, *inputs):
    return bool(torch.allclose(made, CPU(*inputs)[0], atol=1e-6))


def call_lazy():
    return WAS_INITIALIZED


def call_device():
    return str(next(MODEL.parameters()).device), torch.neuron.is_available(), torch.neuron.device_count()


def call_eager():
    return is_close(run(MODEL, IDS, MASK), IDS, MASK), "aten::tanh" in torch_neuronx.get_executed_ops()


def call_compiled():
    return is_close(run(COMPILED, IDS, MASK), IDS, MASK), is_close(run(COMPILED, IDS, MASK), IDS, MASK)


def call_another_shape():
    ids, mask = IDS[:1], MASK[:1]
    return is_close(run(COMPILED, ids, mask), ids, mask)


def call_outputs_stay():
    return COMPILED(IDS.to("neuron"), MASK.to("neuron"))[0].numpy()


def call_weights_not_moved():
    return Scores().eval()(IDS.to("neuron"), MASK.to("neuron"))


def call_copied_by_itself():
    made = torch.compile(CPU, backend="neuron", fullgraph=True)(IDS, MASK)[0]
    torch.neuron.synchronize()
    return is_close(made.cpu(), IDS, MASK)


def call_not_copied_by_itself():
    os.environ["TORCH_NEURONX_DYNAMO_DISABLE_CPU_AUTOCOPY"] = "1"
    try:
        torch.compile(CPU, backend="neuron", fullgraph=True)(IDS, MASK)
    finally:
        del os.environ["TORCH_NEURONX_DYNAMO_DISABLE_CPU_AUTOCOPY"]


def call_dynamic():
    torch.compile(MODEL, backend="neuron", dynamic=True)(IDS.to("neuron"), MASK.to("neuron"))


def call_id_too_large_before_synchronize():
    made = COMPILED((IDS + 1).to("neuron"), MASK.to("neuron"))[0].cpu()
    return bool((made == 0).all())


def call_id_too_large_at_synchronize():
    torch.neuron.synchronize()


def call_synchronize_again():
    torch.neuron.synchronize()


def call_blocking():
    os.environ["NEURON_LAUNCH_BLOCKING"] = "1"
    try:
        COMPILED((IDS + 1).to("neuron"), MASK.to("neuron"))
    finally:
        del os.environ["NEURON_LAUNCH_BLOCKING"]


def call_mode():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch._dynamo.reset()
        run(torch.compile(MODEL, backend="neuron", mode="max-autotune"), IDS, MASK)
    return [str(each.message) for each in caught if "no effect" in str(each.message)]


def call_set_device():
    torch.neuron.set_device(7)


def call_fork():
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            torch.ones(1).to("neuron")
        except RuntimeError as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.close(write)
    return os.read(read, 4096).decode()


if __name__ == "__main__":
    main(dict(globals()))
