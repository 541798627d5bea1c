"""Offline batch inference on AWS Inferentia, Trainium and any CPU.

from batchneuron import load_job, run_job

summary = run_job(load_job("jobs/quickstart.yaml", ["output.path=out/x"]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchneuron.interactive.modeling import (
        NeuronModelForFeatureExtraction,
        NeuronModelForImageClassification,
        NeuronModelForMaskedLM,
        NeuronModelForQuestionAnswering,
        NeuronModelForSequenceClassification,
        NeuronModelForTokenClassification,
        NeuronSentenceTransformers,
    )
    from batchneuron.interactive.pipelines import pipeline
    from batchneuron.interactive.predictor import Predictor
    from batchneuron.run import load_job, run_job

__version__ = "0.1.0"
__all__ = [
    "NeuronModelForFeatureExtraction",
    "NeuronModelForImageClassification",
    "NeuronModelForMaskedLM",
    "NeuronModelForQuestionAnswering",
    "NeuronModelForSequenceClassification",
    "NeuronModelForTokenClassification",
    "NeuronSentenceTransformers",
    "Predictor",
    "__version__",
    "load_job",
    "pipeline",
    "run_job",
]


def __getattr__(name: str) -> Any:
    """The API, imported on first use (PEP 562): workers import this package and need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from batchneuron import run
    from batchneuron.interactive import modeling, pipelines, predictor

    named = {"pipeline": pipelines, "Predictor": predictor}
    module = named.get(name, modeling if name.startswith("Neuron") else run)
    return getattr(module, name)
