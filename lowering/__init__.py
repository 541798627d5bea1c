"""`make lowering`: every program through the front ends of the Neuron stacks, without a Neuron device.

Not part of the package, and not needed by the default tests. See docs/lowering.md.
"""
