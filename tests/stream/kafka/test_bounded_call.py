"""Calls in a thread that can be given up."""

from __future__ import annotations

import threading

import pytest

from stream.kafka.client.bounded_call import BoundedCall, NoReturn


def test_a_call_is_made_in_one_other_thread_and_waited_for() -> None:
    bounded, seen = BoundedCall(), []
    for _ in range(3):
        bounded.call(lambda: seen.append(threading.current_thread()), 10)
    bounded.close()
    assert len(set(seen)) == 1
    assert seen[0] is not threading.current_thread()


def test_what_a_call_raises_is_raised() -> None:
    bounded = BoundedCall()
    with pytest.raises(ZeroDivisionError):
        bounded.call(lambda: 1 / 0, 10)
    bounded.close()


def test_a_call_that_does_not_return_is_given_up_and_the_next_one_is_made() -> None:
    bounded, release, ended = BoundedCall(), threading.Event(), threading.Event()

    def stuck() -> None:
        release.wait()
        ended.set()

    with pytest.raises(NoReturn):
        bounded.call(stuck, 0.01)
    seen: list[int] = []
    bounded.call(lambda: seen.append(1), 10)
    bounded.close()
    assert seen == [1]
    assert not ended.is_set()
    release.set()
    assert ended.wait(10), "the thread that was given up ends by itself"
