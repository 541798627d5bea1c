"""A simulated torch_neuronx of the XLA stack: `trace` on any CPU, with the real one's refusals.

The program that `trace` returns is a real TorchScript module around the traced one. It calls operators
that this import registers, so that it loads after `import torch_neuronx` and not before.
What it does not prove: anything of the real compiler's coverage, speed or rounding.
"""

import shutil

if shutil.which("libneuronpjrt-path") is None:
    raise FileNotFoundError(2, "No such file or directory", "libneuronpjrt-path")

from torch_neuronx.operators import get_runtime
from torch_neuronx.tracing import trace

__version__ = "2.9.0.2.15.32035"
__all__ = ["get_runtime", "trace"]
