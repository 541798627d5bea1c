"""The daily tests take a few architectures of each parity test; `make thorough` takes the others."""

from pathlib import Path

import pytest

DAILY = {"bert", "roberta", "deberta-v2", "vit", "swin"}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    for item in items:
        kind = getattr(item, "callspec", None) and item.callspec.params.get("kind")
        if isinstance(kind, str) and kind not in DAILY and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.thorough)
