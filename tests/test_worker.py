"""The thread that GPU work runs on: the same for every caller, and stopped when its caller is interrupted."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time

import pytest

from onnxsd.engine.worker import Worker
from onnxsd.errors import UsageError


def test_every_caller_gets_the_same_thread() -> None:
    worker, found = Worker(), set()

    def call() -> None:
        found.add(worker.run(threading.get_ident))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert len(found) == 1
    assert threading.get_ident() not in found


def test_work_may_bring_work_of_its_own() -> None:
    worker = Worker()

    assert worker.run(lambda: worker.run(lambda: 7)) == 7


def test_pieces_of_work_do_not_overlap() -> None:
    worker, inside, most = Worker(), [0], [0]

    def work() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        inside[0] -= 1

    callers = [threading.Thread(target=worker.run, args=(work,)) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert most == [1]


def test_an_error_reaches_the_caller_and_the_next_work_runs() -> None:
    worker = Worker()

    def fail() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        worker.run(fail)
    assert worker.run(lambda: 7) == 7


def test_a_worker_that_nobody_has_any_more_leaves_no_thread() -> None:
    worker = Worker()
    thread = worker.run(threading.current_thread)

    del worker
    gc.collect()
    thread.join(30)

    assert not thread.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent to a thread there")
def test_ctrl_c_ends_the_work_at_its_next_check_and_the_next_work_runs() -> None:
    worker, steps = Worker(), [0]
    main = threading.main_thread().ident
    assert main is not None

    def work() -> None:
        while True:
            worker.check()
            steps[0] += 1
            if steps[0] == 3:
                signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        worker.run(work)

    stopped_at = steps[0]
    assert worker.run(lambda: 7) == 7
    assert steps[0] == stopped_at
    worker.check()
