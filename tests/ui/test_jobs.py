"""One job at a time, in the order of asking; cancelled ones end."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from invrecon.ui.jobs import JobCancelledError, Jobs


class Gate:
    """Work that reports a step whenever it is let through, until it is told to end."""

    def __init__(self):
        self.begun, self.step, self.ended = threading.Event(), threading.Event(), False

    def __call__(self, on_progress):
        self.begun.set()
        while not self.ended:
            assert self.step.wait(10)
            self.step.clear()
            on_progress("inverting", 1, 2)
        return "result"

    def end(self):
        self.ended = True
        self.step.set()


def test_jobs_run_one_by_one_in_order():
    jobs, gates = Jobs(), [Gate(), Gate()]
    first, second = (jobs.add(gate, "page") for gate in gates)
    assert gates[0].begun.wait(10)
    assert [jobs.ahead(first), jobs.ahead(second)] == [0, 1]
    assert not gates[1].begun.is_set()
    gates[0].end()
    assert first.future.result(10) == "result"
    assert first.stages == {"inverting": (1, 2)}
    assert gates[1].begun.wait(10)
    assert jobs.ahead(second) == 0
    gates[1].end()
    assert second.future.result(10) == "result"


def test_a_job_is_cancelled_after_its_step_and_a_waiting_one_at_once():
    jobs, running, waiting, others = Jobs(), Gate(), Gate(), Gate()
    first, second = jobs.add(running, "page 1"), jobs.add(waiting, "page 1")
    third = jobs.add(others, "page 2")
    assert running.begun.wait(10)
    jobs.cancel("page 1")
    with pytest.raises(CancelledError):
        second.future.result(0)
    assert not first.future.done()
    running.step.set()
    with pytest.raises(JobCancelledError):
        first.future.result(10)
    assert others.begun.wait(10)
    assert not waiting.begun.is_set()
    others.end()
    assert third.future.result(10) == "result"


def test_all_are_cancelled_when_the_program_ends():
    jobs, gates = Jobs(), [Gate(), Gate()]
    first, second = (jobs.add(gate, f"page {number}") for number, gate in enumerate(gates))
    assert gates[0].begun.wait(10)
    jobs.cancel()
    gates[0].step.set()
    for job, kind in ((first, JobCancelledError), (second, CancelledError)):
        with pytest.raises(kind):
            job.future.result(10)


def test_a_generator_gives_its_results_as_they_come():
    jobs, gate = Jobs(), threading.Event()

    def work(on_progress):
        yield 1
        assert gate.wait(10)
        on_progress("drawing", 1, 2)
        yield 2

    job = jobs.add(work, "page")
    ends = time.monotonic() + 10
    while not job.results:
        assert time.monotonic() < ends
    assert job.results == [1]
    assert not job.future.done()
    gate.set()
    assert job.future.result(10) == 2
    assert job.results == [1, 2]


def test_a_cancelled_generator_keeps_what_it_gave():
    jobs, gate = Jobs(), Gate()

    def work(on_progress):
        yield 1
        gate(on_progress)
        yield 2

    job = jobs.add(work, "page")
    assert gate.begun.wait(10)
    jobs.cancel("page")
    gate.step.set()
    with pytest.raises(JobCancelledError):
        job.future.result(10)
    assert job.results == [1]


def test_an_error_is_the_jobs_result_and_stops_no_other():
    jobs = Jobs()
    failed, done = jobs.add(lambda _: 1 / 0, "page"), jobs.add(lambda _: "result", "page")
    with pytest.raises(ZeroDivisionError):
        failed.future.result(10)
    assert done.future.result(10) == "result"
