"""The program of fill-mask: which token of an item reaches the vocabulary, and what comes out for it."""

from types import SimpleNamespace

import pytest
import torch

from batchneuron.model import resolve_model
from batchneuron.spec.sections import ModelSpec
from batchneuron.tasks import open_task
from batchneuron.tasks.fill_mask import KIND, run_at
from tests.parity.test_architectures import ARCHITECTURES, PAD_IS_ONE
from tests.tiny import SPECIALS

BETA, GAMMA = len(SPECIALS) + 1, len(SPECIALS) + 2


@pytest.fixture
def make_task(encoder):
    model = resolve_model(ModelSpec(id=str(encoder)), "")
    return lambda **options: open_task("fill-mask", options, model)


def make_filler(kind):
    """A tiny masked language model of that architecture, random weights."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.for_model(
        kind,
        vocab_size=128,
        pad_token_id=int(kind in PAD_IS_ONE),
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
        initializer_range=0.4,
        **ARCHITECTURES[kind],
    )
    torch.manual_seed(5)
    return AutoModelForMaskedLM.from_config(config).eval().requires_grad_(requires_grad=False)


def make_inputs(places=(1, 5, 11, 3)):
    """Four items of twelve tokens, the second with padding, and their masks' places."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 128, (4, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    position = torch.zeros_like(ids)
    position[:, 0] = torch.tensor(places)
    return ids, mask, position


class Filler(torch.nn.Module):
    """A program: the model with the task's head behind it."""

    def __init__(self, model, task):
        super().__init__()
        self.model, self.task = model, task
        KIND.prepare(model)

    def forward(self, ids, mask, position):
        return self.task.head(
            self.model, {"input_ids": ids, "attention_mask": mask, "mask_position": position}
        )


@pytest.mark.filterwarnings("ignore")  # what tracing has to say about the models themselves
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_one_token_of_an_item_reaches_the_vocabulary(kind, make_task):
    """The same numbers as full logits have, in eager mode, traced and exported, for other places too.

    The model itself still gives full logits: its hook does nothing unless the head asks for a place.

    Export takes seconds; three of the ten stand for all.
    """
    model = make_filler(kind)
    program = Filler(model, make_task(top_k=128))
    inputs, others = make_inputs(), make_inputs((0, 7, 2, 10))
    ways = [program, torch.jit.trace(program, inputs, check_trace=False)]
    if kind in {"bert", "deberta-v2", "modernbert"}:
        ways.append(torch.export.export(program, inputs).module())

    for ids, mask, position in (inputs, others):
        full = model(input_ids=ids, attention_mask=mask).logits[torch.arange(4), position[:, 0]]
        probabilities = full.softmax(-1)
        assert torch.equal(run_at(model, {"input_ids": ids, "attention_mask": mask}, position[:, :1]), full)
        for run in ways:
            scores, tokens = run(ids, mask, position)
            assert tokens.dtype == torch.int32 and scores.dtype == torch.float32
            torch.testing.assert_close(scores, probabilities.gather(1, tokens.long()), rtol=0, atol=1e-6)
            assert torch.equal(scores, scores.sort(-1, descending=True).values)


def test_the_projection_never_sees_the_other_tokens(make_task):
    model, seen = make_filler("bert"), []
    model.cls.predictions.decoder.register_forward_hook(lambda _, inputs, output: seen.append(output.shape))

    Filler(model, make_task())(*make_inputs())

    assert seen == [(4, 1, 128)]


@pytest.mark.parametrize("kind", ["one module", "a tuple", "an output of another name"])
def test_models_that_are_built_otherwise(kind):
    """Their projection sees all tokens, if it must; what comes out is the same."""
    hidden = torch.arange(24.0).reshape(2, 3, 4)

    class Encoder(torch.nn.Module):
        def forward(self, input_ids):
            return {"a tuple": (hidden, None)}.get(kind, {"states": hidden})

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder()

        @property
        def base_model(self):
            return self if kind == "one module" else self.encoder

        def forward(self, input_ids):
            output = self.encoder(input_ids)
            states = output[0] if isinstance(output, tuple) else output["states"]
            return SimpleNamespace(logits=states * 2)

    model = Model()
    KIND.prepare(model)

    logits = run_at(model, {"input_ids": torch.zeros(2, 3)}, torch.tensor([[2], [0]]))

    assert torch.equal(logits, torch.stack([hidden[0, 2], hidden[1, 0]]) * 2)


def test_targets_are_scored_among_the_whole_vocabulary(make_task):
    model, (ids, mask, position) = make_filler("bert"), make_inputs()
    task = make_task(targets=["gamma", "beta", "gamma"])

    (scores,) = Filler(model, task)(ids, mask, position)

    full = model(input_ids=ids, attention_mask=mask).logits[torch.arange(4), position[:, 0]]
    assert task.target_ids == [GAMMA, BETA]
    assert torch.equal(scores, full.softmax(-1)[:, [GAMMA, BETA]])


def test_a_small_vocabulary_ends_the_list(make_task):
    scores, tokens = Filler(make_filler("bert"), make_task(top_k=500))(*make_inputs())

    assert scores.shape == tokens.shape == (4, 128)
    assert torch.allclose(scores.sum(-1), torch.ones(4))
