"""A simulated native TorchNeuron: a real PrivateUse1 device named `neuron`, whose memory is the host's.

What it proves: tensors and weights must be moved, signatures are compiled once and kept, errors wait for
`synchronize`. What it does not: operator coverage, memory use, speed, rounding, real asynchrony.
"""

import torch
from torch.utils import backend_registration

from torch_neuronx import device, tensors

__version__ = "2.14.3.0.21584"
get_fallback_ops = tensors.get_fallback_ops
get_executed_ops = tensors.get_executed_ops
clear_op_tracking = tensors.clear_op_tracking

backend_registration._setup_privateuseone_for_python_backend("neuron", device)
tensors.register()
# A new shape is compiled for itself; Dynamo must not make a dimension symbolic.
torch._dynamo.config.automatic_dynamic_shapes = False


def _autoload():
    """Entry point `torch.backends`: the import has done it all."""
