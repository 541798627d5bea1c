"""`from batchneuron.modeling import NeuronModelFor…`, as from `optimum.neuron.modeling`."""

from batchneuron.interactive.modeling import (
    NeuronModelForFeatureExtraction,
    NeuronModelForImageClassification,
    NeuronModelForMaskedLM,
    NeuronModelForQuestionAnswering,
    NeuronModelForSequenceClassification,
    NeuronModelForTokenClassification,
    NeuronSentenceTransformers,
)

__all__ = [
    "NeuronModelForFeatureExtraction",
    "NeuronModelForImageClassification",
    "NeuronModelForMaskedLM",
    "NeuronModelForQuestionAnswering",
    "NeuronModelForSequenceClassification",
    "NeuronModelForTokenClassification",
    "NeuronSentenceTransformers",
]
