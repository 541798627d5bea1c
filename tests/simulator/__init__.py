"""A strict stand-in for the Neuron SDK, for processes: put on a child's PATH and PYTHONPATH, nothing else.

`machine.install` makes a machine in a folder; `packages/` is what a process on it imports.
It shows that a program is called, loaded, shared out and mended as AWS's documents ask. It does not show
that the real compiler takes a model, nor how fast or how exact the chip is.
"""
