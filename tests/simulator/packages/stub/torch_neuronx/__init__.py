"""What the public index has under this name."""

raise RuntimeError(
    "WRONG PACKAGE: torch_neuronx comes from https://pip.repos.neuron.amazonaws.com, not from PyPI"
)
