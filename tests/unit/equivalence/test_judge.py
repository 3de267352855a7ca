"""The judgement: equal, noise or wrong, on made-up answers whose right verdict is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.equivalence import Answer, Candidate, Noise, calibrate, judge
from spanwise.equivalence.judge import MOST_MOVEMENT, common_prefix, movement

QUIET = Noise(logprob=0.05, movement=0.02, resolution=0.01, repeats=1, positions=10)


def answer(
    tokens: list[int],
    *,
    gaps: list[float] | None = None,
    runner_up: int = 999,
    finish: str = "length",
    prompt: str = "p",
) -> Answer:
    gaps = gaps or [1.0] * len(tokens)
    top = tuple(
        (
            Candidate(token=f"token_id:{token}", logprob=-0.5),
            Candidate(token=f"token_id:{runner_up}", logprob=-0.5 - gap),
        )
        for token, gap in zip(tokens, gaps, strict=True)
    )
    return Answer(
        prompt_id=prompt,
        token_ids=tuple(tokens),
        logprobs=(-0.5,) * len(tokens),
        top=top,
        text="",
        finish_reason=finish,
    )


def verdict(a: Answer, b: Answer, rule: str = "noise", noise: Noise = QUIET) -> str:
    return judge([a], [b], rule=rule, noise=noise).comparisons[0].verdict  # type: ignore[arg-type]


def test_equal_answers_are_equal_under_both_rules() -> None:
    assert verdict(answer([1, 2, 3]), answer([1, 2, 3])) == "equal"
    assert verdict(answer([1, 2, 3]), answer([1, 2, 3]), rule="exact") == "equal"


def test_a_pipeline_must_match_exactly_even_at_a_tie() -> None:
    a, b = answer([1, 2], gaps=[1.0, 0.0], runner_up=7), answer([1, 7], gaps=[1.0, 0.0])
    assert verdict(a, b, rule="exact") == "wrong"


def test_a_tie_may_fall_either_way_under_the_noise_rule() -> None:
    a, b = answer([1, 2], gaps=[1.0, 0.08], runner_up=7), answer([1, 7])
    found = judge([a], [b], rule="noise", noise=QUIET).comparisons[0]
    assert (found.verdict, found.first_divergence) == ("noise", 1)
    assert found.gap == pytest.approx(0.08)


def test_a_clear_choice_may_not_change() -> None:
    assert verdict(answer([1, 2], gaps=[1.0, 0.11], runner_up=7), answer([1, 7])) == "wrong"


def test_a_token_out_of_nowhere_is_wrong_however_close_the_best_two_lie() -> None:
    assert verdict(answer([1, 2], gaps=[1.0, 0.0], runner_up=7), answer([1, 8])) == "wrong"


def test_lengths_finish_reasons_and_missing_answers_count() -> None:
    assert verdict(answer([1, 2, 3]), answer([1, 2])) == "wrong"
    assert verdict(answer([1, 2]), answer([1, 2, 3])) == "wrong"
    assert verdict(answer([1, 2]), answer([1, 2], finish="stop")) == "wrong"
    assert not judge([answer([1])], [], rule="noise", noise=QUIET).equivalent


def test_scores_that_moved_further_than_noise_are_wrong_though_every_token_is_equal() -> None:
    a = answer([1, 2])
    held = judge(
        [a],
        [a],
        rule="noise",
        noise=QUIET,
        reference_scores={"p": [-1.0, -1.0]},
        candidate_scores={"p": [-1.02, -0.95]},
    )
    assert held.equivalent
    moved = judge(
        [a], [a], rule="noise", noise=QUIET, reference_scores={"p": [-1.0, -1.0]}, candidate_scores={"p": [-1.5, -0.9]}
    )
    assert moved.movement == pytest.approx(0.3)
    assert moved.movement > MOST_MOVEMENT * QUIET.movement
    assert not moved.equivalent
    assert all(item.verdict == "equal" for item in moved.comparisons)


def test_noise_is_what_the_reference_does_to_itself() -> None:
    first = answer([1, 2, 3])
    again = Answer(
        prompt_id="p",
        token_ids=(1, 2, 3),
        logprobs=(-0.5, -0.5, -0.5),
        top=(first.top[0], (Candidate(token="token_id:2", logprob=-0.7), first.top[1][1]), first.top[2]),
        text="",
        finish_reason="length",
    )
    noise = calibrate([[first], [again]], {"p": [-0.5, -0.4, -0.5]})
    assert noise.logprob == pytest.approx(0.2)
    assert noise.movement == pytest.approx(0.1 / 3)
    assert noise.positions == 3
    with pytest.raises(ValueError, match="repeat"):
        calibrate([[first]])


def test_scores_of_other_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="different texts"):
        movement({"p": [1.0]}, {"q": [1.0]})
    with pytest.raises(ValueError, match="different texts"):
        movement({"p": [1.0]}, {"p": [1.0, 2.0]})


def test_an_answer_keeps_its_columns_together() -> None:
    with pytest.raises(ValueError, match="same length"):
        Answer(prompt_id="p", token_ids=(1, 2), logprobs=(0.0,), top=((),), text="", finish_reason="stop")


TOKENS = st.lists(st.integers(0, 5), max_size=12)


@given(TOKENS, TOKENS)
def test_common_prefix_is_the_longest(a: list[int], b: list[int]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_exact_never_accepts_what_differs(a: list[int], b: list[int]) -> None:
    assert (verdict(answer(a), answer(b), rule="exact") == "equal") == (a == b)
