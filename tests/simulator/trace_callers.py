"""Callers of `torch_neuronx.trace` and of what it returns, right ones and wrong ones."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import torch
import torch_neuronx

from tests.simulator.callers import main

os.environ["NEURON_RT_VISIBLE_CORES"] = "1"  # too late: it was read by the import above


class Scores(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, ids, mask):
        return (self.head(self.embed(ids) * mask[..., None]).sum(1),)


torch.manual_seed(0)
MODEL = Scores().eval()
IDS, MASK = torch.arange(10).reshape(2, 5), torch.ones(2, 5, dtype=torch.int64)
FOLDER = Path(tempfile.mkdtemp())
PROGRAM = torch_neuronx.trace(MODEL, (IDS, MASK), compiler_workdir=str(FOLDER / "work"))
torch.jit.save(PROGRAM, FOLDER / "program.pt")
# The same for another chip: made without a device, so that nothing is loaded.
FOREIGN = torch_neuronx.trace(MODEL, (IDS, MASK), compiler_args="--target trn2", cpu_backend=True)
torch.jit.save(FOREIGN, FOLDER / "foreign.pt")


def call_right():
    return bool(torch.equal(PROGRAM(IDS, MASK)[0], MODEL(IDS, MASK)[0]))


def call_loaded():
    return bool(torch.equal(torch.jit.load(FOLDER / "program.pt")(IDS, MASK)[0], MODEL(IDS, MASK)[0]))


def call_loaded_without_the_import():
    source = f"import torch; torch.jit.load({str(FOLDER / 'program.pt')!r})"
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True).stderr


def call_loaded_on_another_architecture():
    torch.jit.load(FOLDER / "foreign.pt")


def call_compiled_without_device_and_called():
    FOREIGN(IDS, MASK)


def call_log_is_kept():
    return (FOLDER / "work/log-neuron-cc.txt").read_text()


def call_one_row():
    PROGRAM(IDS[:1], MASK[:1])


def call_int32():
    PROGRAM(IDS.int(), MASK)


def call_one_input():
    PROGRAM(IDS)


def call_by_name():
    PROGRAM(ids=IDS, mask=MASK)


def call_id_too_large():
    PROGRAM(IDS + 1, MASK)


def call_id_negative():
    PROGRAM(IDS - 1, MASK)


def call_mask_may_be_anything():
    return PROGRAM(IDS, MASK * 100)[0].shape


def call_training_mode():
    torch_neuronx.trace(Scores().train(), (IDS, MASK))


def call_positional():
    torch_neuronx.trace(MODEL, (IDS, MASK), "/tmp")


def call_inputs_by_name():
    torch_neuronx.trace(MODEL, {"ids": IDS, "mask": MASK})


def call_unknown_keyword():
    torch_neuronx.trace(MODEL, (IDS, MASK), workdir="/tmp")


def call_no_target_without_device():
    torch_neuronx.trace(MODEL, (IDS, MASK), cpu_backend=True)


def call_unknown_flag():
    torch_neuronx.trace(MODEL, (IDS, MASK), compiler_args="--fast")


def call_unknown_value():
    torch_neuronx.trace(MODEL, (IDS, MASK), compiler_args=["--auto-cast", "matmul"])


def call_logical_cores_on_trn1():
    torch_neuronx.trace(MODEL, (IDS, MASK), compiler_args="--target trn1 -lnc 1", cpu_backend=True)


def call_all_flags():
    flags = "--target inf2 --model-type transformer --auto-cast=matmult --auto-cast-type bf16 -O1"
    return torch_neuronx.trace(MODEL, (IDS, MASK), compiler_args=f"{flags} --enable-saturate-infinity")(
        IDS, MASK
    )[0].shape


def call_bfloat16_is_another_number():
    made = torch_neuronx.trace(MODEL, (IDS, MASK), compiler_args="--auto-cast all")
    difference = (made(IDS, MASK)[0] - MODEL(IDS, MASK)[0]).abs().max().item()
    return 0 < difference < 0.1


def call_output_that_torchscript_cannot_say():
    torch_neuronx.trace(lambda ids: (ids, "text"), IDS)


def call_in_a_fork():
    child = os.fork()
    if child == 0:
        try:
            PROGRAM(IDS, MASK)
        except RuntimeError as error:
            os._exit(13 if "status 13" in str(error) else 1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main(dict(globals()))
