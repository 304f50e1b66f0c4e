"""At most one alert per entity and period; the same events always get the same answer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.decision.memory.suppression import AlertMemory

EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 500), st.integers(1, 2)), max_size=40)


def suppress(memory: AlertMemory, events, start: int = 0, remember: bool = True):
    return memory.suppress(
        [card for card, _, _ in events],
        [f"e{start + number}" for number in range(len(events))],
        np.array([time for _, time, _ in events], dtype=np.int64),
        np.array([decision for _, _, decision in events], dtype=np.int8),
        remember,
    )


@given(EVENTS)
def test_never_two_equal_alerts_of_a_card_within_a_period(events):
    kept = [e for e, gone in zip(events, suppress(AlertMemory(100), events), strict=True) if not gone]
    for number, (card, time, decision) in enumerate(kept):
        for other, earlier, known in kept[:number]:
            assert other != card or abs(time - earlier) >= 100 or decision > known


@given(EVENTS)
def test_every_suppressed_event_is_near_an_alert_as_strict(events):
    gone = suppress(AlertMemory(100), events)
    alerts = [event for event, hidden in zip(events, gone, strict=True) if not hidden]
    for (card, time, decision), hidden in zip(events, gone, strict=True):
        if hidden:
            assert any(c == card and abs(t - time) < 100 and d >= decision for c, t, d in alerts)


@given(EVENTS, st.integers(0, 40), st.integers(0, 40))
def test_deciding_again_gives_the_same(events, cut, again):
    cut = min(cut, len(events))
    again = min(again, cut)
    once = suppress(AlertMemory(100), events)
    memory = AlertMemory(100)
    suppress(memory, events[:cut])
    repeated = suppress(memory, events[again:], start=again)
    assert (repeated == once[again:]).all()


def test_a_decline_passes_a_review():
    events = [("a", 0, 1), ("a", 10, 1), ("a", 20, 2), ("a", 30, 2)]
    assert suppress(AlertMemory(100), events).tolist() == [False, True, False, True]


def test_questions_leave_no_trace():
    memory = AlertMemory(100)
    assert suppress(memory, [("a", 0, 1), ("a", 1, 1)], remember=False).tolist() == [False, True]
    assert suppress(memory, [("a", 2, 1)], start=9).tolist() == [False]


def test_no_key_is_never_suppressed():
    assert suppress(AlertMemory(100), [(None, 0, 1), (None, 1, 1)]).tolist() == [False, False]


def test_memory_is_bounded_by_the_period():
    memory = AlertMemory(100)
    for number in range(50_000):
        suppress(memory, [(f"card-{number}", number, 1)], start=number)
    assert len(memory) < 5_000


@given(EVENTS, st.integers(0, 40))
def test_published_alerts_are_all_that_must_be_remembered(events, cut):
    cut = min(cut, len(events))
    undisturbed = suppress(AlertMemory(100), events)
    published = [
        (card, f"e{number}", time, decision)
        for number, ((card, time, decision), gone) in enumerate(zip(events, undisturbed, strict=True))
        if number < cut and not gone
    ]
    recovered = AlertMemory(100)
    recovered.recall(published)
    assert (suppress(recovered, events[cut:], start=cut) == undisturbed[cut:]).all()
