"""SIGTERM and SIGHUP within `ending_by_signal`, where other code handles them or they are ignored."""

import functools
import os
import signal
import threading

import pytest

from nasbench.study.termination import ending_by_signal


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_signal_that_is_ignored_or_handled_stays_so(handler):
    """nohup has SIGHUP ignored."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with ending_by_signal():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_are_given_back(request):
    for number in (signal.SIGTERM, signal.SIGHUP):  # other code of this process can have a handler, as Ray has
        request.addfinalizer(functools.partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with ending_by_signal(), ending_by_signal():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_in_another_thread_nothing_is_handled():
    seen = []

    def enter():
        with ending_by_signal():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
