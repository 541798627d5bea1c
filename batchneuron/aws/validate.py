"""Requests held against AWS's own model of them, without asking AWS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchneuron.errors import Problem, SpecError


def require_valid(service: str, operation: str, request: Mapping[str, Any]) -> None:
    """Hold a request against botocore's model: names, types, what is required, how long lists and texts are.

    Raises:
        SpecError: with everything that is wrong with it.
    """
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    model = get_session().get_service_model(service).operation_model(operation)
    report = ParamValidator().validate(dict(request), model.input_shape)
    if report.has_errors():
        lines = report.generate_report().splitlines()
        raise SpecError(tuple(Problem(f"{service} {operation}", "", line) for line in lines))
