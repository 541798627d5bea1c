"""`from batchneuron.pipelines import pipeline`, as from `optimum.neuron.pipelines`."""

from batchneuron.interactive.pipelines import Pipeline, pipeline

__all__ = ["Pipeline", "pipeline"]
