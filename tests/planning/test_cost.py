"""Cost: what a batch takes on a core, by hand."""

import pytest

from batchneuron.planning.cost import DeviceCost, ShapeCost, count_tokens, estimate_cost

# From the benchmark pages of the Neuron SDK: distilbert, 128 tokens, one of two cores of an inf2.xlarge.
DISTILBERT = {"n_layers": 6, "dim": 768, "n_heads": 12}
INF2 = DeviceCost(per_call_s=0.0002, flop_per_s=3.1e13, compile_s=60.0)


def test_a_call_is_its_own_time_its_slots_and_the_pairs_of_slots():
    cost = ShapeCost(per_call_s=100, per_slot_s=10, per_pair_s=1, compile_s=5)

    assert cost.call_s(2, 3) == 100 + 6 * 10 + 2 * 3 * 3


@pytest.mark.parametrize(("length", "seen"), [(16, 16), (48, 48), (8, 8 + 5), (17, 17 + 5)])
def test_attention_takes_longer_in_lengths_that_leave_a_register_partly_empty(length, seen):
    cost = ShapeCost(per_call_s=100, per_slot_s=10, per_pair_s=1, uneven_tokens=5)

    assert cost.call_s(2, length) == 100 + 2 * length * (10 + seen)


def test_an_image_is_a_slot_and_no_length():
    device = DeviceCost(uneven_tokens=5)

    assert estimate_cost(device, {}).uneven_tokens == 5
    assert estimate_cost(device, {"image_size": 224, "patch_size": 16}).uneven_tokens == 0


@pytest.mark.parametrize(("batch_size", "measured_s"), [(16, 0.00601), (1, 0.00058)])
def test_the_estimate_is_near_what_amazon_published(batch_size, measured_s):
    assert estimate_cost(INF2, DISTILBERT).call_s(batch_size, 128) == pytest.approx(measured_s, rel=0.05)


def test_a_model_that_names_no_sizes_is_taken_for_bert_base():
    assert estimate_cost(INF2, {}) == estimate_cost(INF2, {"num_hidden_layers": 12, "hidden_size": 768})
    assert estimate_cost(INF2, {}).per_slot_s == 2 * estimate_cost(INF2, DISTILBERT).per_slot_s


@pytest.mark.parametrize(
    ("memory", "weights", "shapes"), [(None, 10**12, 8), (1600, 100, 8), (1599, 100, 7), (10, 100, 1)]
)
def test_as_many_shapes_as_weights_fit_half_of_the_memory(memory, weights, shapes):
    assert DeviceCost(memory_bytes=memory).count_shapes(weights, 8) == shapes


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({}, 1),
        ({"image_size": 224}, 1),
        ({"image_size": [224, 224], "patch_size": 16}, 1),
        ({"image_size": 224, "patch_size": 16}, 197),
        ({"image_size": 224, "patch_size": 14}, 257),
        ({"image_size": 224, "patch_size": 4, "depths": [2, 2, 6, 2]}, 197),
    ],
    ids=["text", "unknown", "oblong", "vit", "vit-14", "swin"],
)
def test_an_image_is_as_many_tokens_as_it_has_patches(config, tokens):
    assert count_tokens(config) == tokens


def test_an_image_costs_what_a_text_of_its_patches_does():
    vit = estimate_cost(INF2, {"image_size": 224, "patch_size": 16})

    assert vit.call_s(8, 1) == pytest.approx(estimate_cost(INF2, {}).call_s(8, 197))
