"""The simulated compiler of `torch.compile(backend="neuron")`."""
