"""Offline batch inference on AWS Inferentia, Trainium and any CPU."""

__version__ = "0.1.0"
