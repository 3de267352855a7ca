"""What several ranks cost beside their own work: gathered scores, a bucket in the link, the gang's overhead, shared cores."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spanwise.errors import FactsError
from spanwise.estimate.collectives import all_gather_s, all_reduce_s, hop_s
from spanwise.estimate.layout import Layout
from spanwise.estimate.rates import rates
from spanwise.estimate.step import Work, costs, step_time
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook, book_from
from spanwise.facts.catalogue import model_config
from spanwise.facts.dtypes import weight_format

BOOK, BF16 = FactBook(), weight_format("bfloat16")
MODEL = model_facts(model_config("meta-llama/Meta-Llama-3-8B"))
L4 = rates(BOOK.gpu("L4-24GB"), BOOK.fabric("ethernet-10g"), BF16, "expected")
TWO = Layout(2, 1, 1)
DECODE = Work(decodes=32, context=500)


def test_the_scores_of_the_vocabulary_are_gathered_once_per_token() -> None:
    cut = costs(MODEL, BF16, TWO)
    assert cut.logit_bytes == 128256 * 2
    without = step_time(L4, replace(cut, logit_bytes=0), DECODE).latency
    gathered = step_time(L4, cut, DECODE).latency - without
    # Half of the scores of 32 tokens, over 10 Gbit/s at the share that collectives reach.
    assert L4.far is not None
    assert gathered == pytest.approx(32 * 128256 * 2 / 2 / L4.far.bytes_per_s, rel=1e-6)
    assert all_gather_s(L4, TWO, 1 << 20) < all_reduce_s(L4, TWO, 1 << 20)
    assert all_gather_s(L4, Layout(1, 2, 1), 1 << 20) == 0


def test_a_bucket_passes_small_messages_at_once_and_large_ones_almost_in_full() -> None:
    facts = {"schema": "spanwise.facts/1", "facts": [_fact("ethernet-10g.burst", 8192.0, "B")]}
    shaped = rates(BOOK.gpu("L4-24GB"), book_from(facts, where="here").fabric("ethernet-10g"), BF16, "expected")
    assert shaped.far is not None
    assert shaped.far.burst == 8192
    assert hop_s(shaped, 8000, between_nodes=True, ranks=1) == shaped.far.hop
    assert hop_s(shaped, 1 << 24, between_nodes=True, ranks=1) == pytest.approx(
        hop_s(L4, 1 << 24, between_nodes=True, ranks=1), rel=1e-3
    )
    assert all_reduce_s(shaped, TWO, 4096) < all_reduce_s(L4, TWO, 4096)


def test_a_gang_of_several_ranks_pays_its_overhead_once_per_step_and_a_single_rank_does_not() -> None:
    slow = replace(L4, gang_overhead=0.01)
    for layout, extra in ((Layout(1, 1, 1), 0.0), (TWO, 0.01), (Layout(1, 2, 1), 0.01)):
        cut = costs(MODEL, BF16, layout)
        assert step_time(slow, cut, DECODE).latency - step_time(L4, cut, DECODE).latency == pytest.approx(extra)


def test_ranks_that_share_cores_take_turns() -> None:
    shared = replace(L4, shared_cores=2)
    assert [shared.turns(ranks) for ranks in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    assert [L4.turns(ranks) for ranks in (1, 8)] == [1, 1]
    cut = costs(MODEL, BF16, Layout(4, 1, 1))
    alone, both = step_time(L4, cut, DECODE).latency, step_time(shared, cut, DECODE).latency
    reduced = 65 * all_reduce_s(L4, Layout(4, 1, 1), 32 * cut.hidden_bytes) + all_gather_s(
        L4, Layout(4, 1, 1), 32 * cut.logit_bytes
    )
    assert both - reduced == pytest.approx(2 * (alone - reduced)), "what crosses the link needs no core"
    pipeline = costs(MODEL, BF16, Layout(1, 4, 1))
    one, other = step_time(L4, pipeline, DECODE), step_time(shared, pipeline, DECODE)
    assert other.latency == pytest.approx(one.latency), "one step at a time keeps one stage busy"
    assert other.bottleneck > 1.9 * one.bottleneck, "several keep all busy, on half the cores"


def test_the_engines_own_processes_take_time_only_where_no_core_is_idle() -> None:
    taxed, shared = replace(L4, shared_cores=2, engine_cpu=0.01), replace(L4, shared_cores=2)
    two, one = costs(MODEL, BF16, Layout(1, 2, 1)), costs(MODEL, BF16, Layout(1, 1, 1))
    assert step_time(taxed, two, DECODE).latency == step_time(shared, two, DECODE).latency
    more = step_time(taxed, two, DECODE).bottleneck - step_time(shared, two, DECODE).bottleneck
    assert more == pytest.approx(0.01)
    assert step_time(taxed, one, DECODE) == step_time(shared, one, DECODE)
    assert step_time(replace(taxed, shared_cores=4), two, DECODE).bottleneck < step_time(taxed, two, DECODE).bottleneck


def test_shared_cores_come_from_a_facts_file() -> None:
    facts = {"schema": "spanwise.facts/1", "facts": [_fact("lab-cpu.shared_cores", 2.0, "1")]}
    assert rates(book_from(facts, where="here").gpu("lab-cpu"), None, BF16, "expected").shared_cores == 2
    facts["facts"][0]["unit"] = "B"
    with pytest.raises(FactsError, match="unit"):
        book_from(facts, where="here")


def _fact(name: str, value: float, unit: str) -> dict[str, object]:
    return {"name": name, "value": value, "unit": unit, "source": "a test", "date": "2026-11-24", "kind": "measured"}
