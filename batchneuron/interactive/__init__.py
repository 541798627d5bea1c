"""The interactive API: pipelines and models for a notebook, and a callable for other engines."""
