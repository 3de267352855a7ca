"""The front: nothing on it is beaten, nothing off it is not, and the choice is on it or the verdict says why not."""

from hypothesis import given, settings

from spanwise.decide import PinnedLayout, Verdict
from spanwise.decide.candidates import Judge
from spanwise.decide.pareto import MOST_POINTS, aims, dominates, front, judged, points
from tests.unit.decide.asking import LLAMA_8B, LLAMA_70B, ask, codes
from tests.unit.decide.test_properties import questions


@settings(max_examples=60, deadline=None)
@given(question=questions)
def test_no_point_of_the_front_is_dominated_and_the_choice_is_on_it_or_explained(question):
    judge = Judge(question)
    best = judge.best_confirmed()
    if best is None:
        return
    candidates = judged(judge, best)
    assert best in candidates
    figures = [aims(judge, item) for item in candidates]
    kept = [aims(judge, item) for item in front(judge, candidates)]
    assert set(kept) == {one for one in figures if not any(dominates(other, one) for other in figures)}
    assert len(kept) == len(set(kept))
    shown, why = points(judge, best)
    assert 1 <= len(shown) <= MOST_POINTS
    assert [point.gpus for point in shown] == sorted(point.gpus for point in shown)
    assert all(point.gpus <= question.gpus for point in shown)
    assert any(point.chosen for point in shown) == (why is None)
    if why is not None:
        assert why.code == "not_on_pareto_front"
        assert any(dominates(other, aims(judge, best)) for other in kept)


def test_a_thinned_front_keeps_its_ends():
    judge = Judge(question_of_many())
    best = judge.best_confirmed()
    whole = front(judge, judged(judge, best))
    shown, _ = points(judge, best)
    assert len(whole) > MOST_POINTS == len(shown)
    assert min(point.tpot_ms for point in shown) == min(item.service.tpot_s for item in whole) * 1e3
    assert min(point.ttft_ms for point in shown) == min(item.service.ttft_s for item in whole) * 1e3
    assert shown[0].gpus == min(item.gpus for item in whole)


def question_of_many():
    from spanwise.decide.judge import ask as question_of
    from spanwise.facts.book import FactBook
    from tests.unit.decide.asking import an_intent
    from tests.unit.decide.test_properties import FACTS

    intent = an_intent(LLAMA_70B, per_node=8, nodes=32, fabric="ib-ndr-400g", rate=80)
    return question_of(intent, FACTS[LLAMA_70B], FactBook())


def test_more_gpus_buy_latency_and_the_verdict_shows_the_price():
    verdict = ask(
        LLAMA_70B,
        per_node=4,
        nodes=2,
        rate=4,
        objectives={"tpot_p95_ms": 50},
        prices_per_gpu_hour={"H100-80GB-SXM": 2.5},
    )
    chosen = next(point for point in verdict.pareto if point.chosen)
    assert (chosen.tensor_parallel_size, chosen.replicas) == (
        verdict.chosen.tensor_parallel_size,
        verdict.chosen.replicas,
    )
    assert chosen.cost_per_hour == verdict.predicted.cost_per_hour == 2.5 * chosen.gpus
    assert chosen.tpot_ms == verdict.predicted.tpot_ms
    assert chosen.requests_per_s == verdict.predicted.requests_per_s
    larger = [point for point in verdict.pareto if point.gpus > chosen.gpus]
    assert larger
    assert all(point.tpot_ms < chosen.tpot_ms or point.ttft_ms < chosen.ttft_ms for point in larger)
    assert Verdict.from_json(verdict.as_json()) == verdict


def test_an_old_verdict_without_a_front_is_still_read():
    document = ask(LLAMA_8B, nodes=1, rate=1).as_json()
    del document["pareto"]
    assert Verdict.from_json(document).pareto == ()


def test_a_loop_that_does_not_divide_evenly_is_not_counted_twice():
    verdict = ask(LLAMA_8B, per_node=4, nodes=1, fabric=None, concurrency=5)
    for point in verdict.pareto:
        # Five requests at once, each lasting at least its tokens: no layout answers more than that.
        assert point.requests_per_s <= 5 / (255 * point.tpot_ms / 1e3) * 1.05


def test_the_choice_has_the_figures_that_are_predicted_also_in_an_uneven_loop():
    pinned = PinnedLayout(tensor_parallel_size=1, pipeline_parallel_size=1, replicas=4)
    verdict = ask(LLAMA_8B, per_node=4, nodes=1, fabric=None, concurrency=5, pinned=pinned)
    chosen = [point for point in verdict.pareto if point.chosen]
    assert verdict.predicted.concurrency <= 5.0
    assert all(point.requests_per_s == verdict.predicted.requests_per_s for point in chosen)
    assert chosen or "not_on_pareto_front" in codes(verdict)


def test_infeasible_has_no_front():
    verdict = ask(LLAMA_70B, gpu="L4-24GB", per_node=1, nodes=1, fabric=None)
    assert codes(verdict)
    assert verdict.pareto == ()
