"""What the public index has under this name."""

raise RuntimeError(
    "WRONG PACKAGE: neuronx_cc comes from https://pip.repos.neuron.amazonaws.com, not from PyPI"
)
