"""A Neuron machine in a folder: what the two simulated stacks, `neuron-ls` and the compiler have in common.

Knows cores, who holds them, what they are told to do wrong, and the compiler's flags; nothing of torch.
The texts are those of AWS's documents and of public issues; where none is known, only the status is told.
"""
