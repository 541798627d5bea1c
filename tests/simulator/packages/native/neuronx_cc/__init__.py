"""The simulated compiler's Python side; the work is done by the command."""

from simulated_nrt.compiler import VERSION as __version__

__all__ = ["__version__"]
