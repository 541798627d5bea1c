import pickle

import pytest
from pydantic import BaseModel, ValidationError

from batchneuron.spec.sections import JobSpec, Section

SPEC = {
    "task": "fill-mask",
    "input": {"path": "a.parquet", "columns": {"text": "body"}},
    "output": {"path": "out"},
}


def test_four_values_make_a_job():
    spec = JobSpec.model_validate(SPEC)

    assert spec.shapes.batch_size == "auto"
    assert spec.errors.max_rejected == 0.01


def test_a_spec_survives_pickling_and_json():
    spec = JobSpec.model_validate(SPEC)

    assert pickle.loads(pickle.dumps(spec)) == spec
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_sections_are_frozen_and_closed():
    spec = JobSpec.model_validate(SPEC)

    with pytest.raises(ValidationError, match="frozen"):
        spec.output.path = "elsewhere"
    with pytest.raises(ValidationError, match="Extra inputs"):
        JobSpec.model_validate({**SPEC, "extra": 1})


@pytest.mark.parametrize("value", [0, 0.5, 1, 250])
def test_rejected_rows_are_a_share_or_a_number(value):
    assert JobSpec.model_validate({**SPEC, "errors": {"max_rejected": value}}).errors.max_rejected == value


def _iter_models(model: type[BaseModel]):
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _iter_models(field.annotation)


@pytest.mark.parametrize("model", list(_iter_models(JobSpec)), ids=lambda model: model.__name__)
def test_every_value_is_described(model):
    for name, field in model.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        assert is_section or field.description, f"{model.__name__}.{name}"
