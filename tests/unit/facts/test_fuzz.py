"""Whatever a stranger's config.json holds: facts that add up, or one message; never anything else."""

import copy
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import FactsError, ModelError
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import SCHEMA, book_from
from spanwise.facts.catalogue import fabrics, gpus, unit_of
from tests.unit.facts.cases import CASES

QUANTISED = (
    {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "modules_to_not_convert": ["lm_head"]},
    {"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": True},
    {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["model.layers.0.self_attn"]},
    {"quant_method": "mxfp4"},
    {
        "quant_method": "compressed-tensors",
        "ignore": ["re:.*self_attn.*", "lm_head"],
        "kv_cache_scheme": {"num_bits": 8, "type": "float"},
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
    },
    {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]},
)
_junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1 << 31, 10**400, float("nan"), float("inf"), -0.0])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_extra = st.sampled_from(
    [
        "quantization_config",
        "rope_scaling",
        "layer_types",
        "head_dim",
        "mlp_only_layers",
        "moe_layers",
        "no_rope_layers",
    ]
)


def _places(value, path=()):
    """Every path to a value inside, so that nested parts are damaged too."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


@st.composite
def damaged(draw):
    config = copy.deepcopy(CASES[draw(st.sampled_from(list(CASES)))])
    if draw(st.booleans()):
        config["quantization_config"] = copy.deepcopy(draw(st.sampled_from(QUANTISED)))
    for _ in range(draw(st.integers(1, 3))):
        *outer, last = draw(st.sampled_from(_places(config)))
        part = config
        for key in outer:
            part = part[key]
        if isinstance(part, dict) and draw(st.booleans()):
            part.pop(last, None)
        else:
            part[last] = draw(_junk)
    if draw(st.booleans()):
        config[draw(_extra)] = draw(_junk)
    return config


@settings(max_examples=500, deadline=None)
@given(config=damaged(), assume=st.booleans())
def test_a_damaged_config_gives_facts_or_one_message(config, assume):
    try:
        facts = model_facts(config, assume=assume)
    except ModelError as error:
        assert error.exit_code == 2
        assert error.remedy
        assert len(str(error)) < 3000
    else:
        adds_up(facts)


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(list(CASES)), quantised=st.sampled_from([None, *QUANTISED]))
def test_layers_are_the_whole(name, quantised):
    facts = model_facts(CASES[name] | ({"quantization_config": quantised} if quantised else {}))
    adds_up(facts)


def adds_up(facts):
    layers = sum(layer.parameters for layer in facts.layer_facts)
    assert facts.parameters == layers + facts.embedding_params + facts.head_params + facts.final_params
    assert 0 <= facts.tower_params < facts.final_params
    assert 0 < facts.active_parameters <= facts.parameters + facts.embedding_params
    weights = facts.weight_format
    assert 0 < facts.weights_bytes(weights) <= facts.parameters * 4
    for layer in facts.layer_facts:
        assert 0 <= layer.attention_linear <= layer.split_linear
        assert layer.experts_per_token <= layer.experts or not layer.experts
    assert facts.kv_bytes_of_sequence(0, weights) == 0
    assert json.loads(json.dumps(facts.as_json())) == facts.as_json()


_measured = st.fixed_dictionaries(
    {
        "name": st.sampled_from([fact.name for facts, _ in (*gpus().values(), *fabrics().values()) for fact in facts]),
        "value": st.floats(1e-9, 1.0),
        "source": st.text(min_size=1, max_size=20),
        "date": st.just("2026-11-24"),
        "kind": st.sampled_from(["catalogue", "measured", "assumption", "stated"]),
    }
)


@given(item=_measured)
def test_facts_survive_json(item):
    item["unit"] = unit_of(item["name"].rpartition(".")[2])
    book = book_from({"schema": SCHEMA, "facts": [item]})
    again = book_from(json.loads(json.dumps({"schema": SCHEMA, "facts": [fact.as_json() for fact in book.overrides]})))
    assert again == book


@settings(max_examples=300, deadline=None)
@given(
    item=_measured, key=st.sampled_from(["name", "value", "unit", "source", "date", "kind", "low", "high"]), junk=_junk
)
def test_a_damaged_facts_file_gives_facts_or_one_message(item, key, junk):
    item = {"unit": unit_of(item["name"].rpartition(".")[2]), **item, key: junk}
    try:
        book_from({"schema": SCHEMA, "facts": [item]})
    except FactsError as error:
        assert error.remedy
