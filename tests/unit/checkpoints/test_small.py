"""Small models of the same layout limits as a large one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.checkpoints.small import MOST_LAYERS, WIDEST_TENSOR, Shape, small_config, tensor_shapes
from spanwise.errors import LayoutError
from spanwise.estimate.layout import Layout, check_layout
from spanwise.facts.architectures import model_facts


@given(tensor=st.integers(1, WIDEST_TENSOR), stages=st.integers(1, 64), layers=st.none() | st.integers(64, MOST_LAYERS))
def test_every_shape_gets_a_model_that_can_be_cut_like_that(tensor: int, stages: int, layers: int | None) -> None:
    config = small_config(Shape(tensor, stages, layers))
    facts = model_facts(config, name="small")
    check_layout(facts, Layout(tensor, stages, tensor * stages))
    assert config["vocab_size"] % tensor == 0
    assert config["num_hidden_layers"] >= stages
    assert layers is None or config["num_hidden_layers"] == layers


def test_what_is_not_small_is_refused() -> None:
    for shape in (Shape(WIDEST_TENSOR + 1, 1), Shape(1, MOST_LAYERS + 1), Shape(1, 2, MOST_LAYERS + 1)):
        with pytest.raises(LayoutError):
            small_config(shape)


@pytest.mark.parametrize(
    ("shape", "real"),
    [
        (Shape(1, 2), True),
        (Shape(3, 1), True),
        (Shape(1, 30, 30), True),
        (Shape(2, 1), False),
        (Shape(1, 31), False),
        (Shape(1, 2, 80), False),
    ],
)
def test_the_demos_model_stands_in_where_it_can(shape: Shape, real: bool) -> None:
    assert shape.real is real
    assert ("SmolLM2" in shape.name) is real


def test_tensors_are_those_of_the_configuration() -> None:
    config = small_config(Shape(4, 2))
    shapes = tensor_shapes(config)
    assert len(shapes) == 2 + 9 * config["num_hidden_layers"]
    assert shapes["model.layers.3.self_attn.k_proj.weight"] == (4 * 64, 256)
    assert sum(a * (b[0] if (b := rest) else 1) for a, *rest in shapes.values()) < 40_000_000
