"""What a token costs, in floating-point operations."""

import pytest

from bench.workload import Sizes, attended_tokens

MINILM = Sizes(hidden_size=384, intermediate_size=1_536, num_hidden_layers=6)


def test_linear_layers_cost_two_operations_a_weight_and_token() -> None:
    weights_of_a_layer = 4 * 384 * 384 + 2 * 384 * 1_536
    assert MINILM.flops_per_token(attended=0) == 6 * 2 * weights_of_a_layer


def test_attention_costs_two_products_with_each_token_of_the_text() -> None:
    attention = MINILM.flops_per_token(attended=90) - MINILM.flops_per_token(attended=0)
    assert attention == 6 * (2 * 384 * 90 + 2 * 90 * 384)


def test_tokens_of_long_texts_attend_to_more() -> None:
    assert attended_tokens([10, 10]) == 10
    assert attended_tokens([10, 30]) == pytest.approx((10 * 10 + 30 * 30) / 40)
