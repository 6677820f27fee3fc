"""Following a job, on a queue like that of a Geocube, which processes requests seconds later."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.cube.follow import End, JobEvent, LogReader, ending_of, follow, require_done
from acdtask.cube.geocube.joblog import last_error, read_log, tasks_of
from acdtask.cube.jobs import Consolidation, JobState, Level, TaskState
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.log_lines import Severity, line

START = datetime(2026, 11, 23, 3, 29, tzinfo=UTC)
HAPPY = (
    "CREATED",
    "CONSOLIDATIONINPROGRESS",
    "CONSOLIDATIONDONE",
    "CONSOLIDATIONINDEXED",
    "CONSOLIDATIONEFFECTIVE",
    "DONE",
)
CRITICAL = {"CONSOLIDATIONINPROGRESS", "CONSOLIDATIONEFFECTIVE"}


@dataclass
class Clock:
    """A clock on which time passes only by sleeping."""

    now: float = 0.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class Queue:
    """A job like those of a Geocube: steps and requests are events that are processed up to `delay` seconds later."""

    def __init__(
        self,
        clock: Clock,
        states: tuple[str, ...] = HAPPY,
        pauses: frozenset[str] | set[str] = frozenset(),
        level: Level = Level.ASYNCHRONOUS,
        delay: float = 10.0,
        fault: AcdError | None = None,
    ) -> None:
        self.clock, self.states, self.pauses, self.level, self.delay = clock, list(states), pauses, level, delay
        self.state, self.waiting, self.fault = "NEW", False, fault
        self.due = delay
        self.requests: list[str] = []
        self.refused = 0
        self.log: list[str] = []
        self.calls = 0
        self._say(Severity.INFO, "Create Job")

    def _say(self, severity: Severity, message: str) -> None:
        moment = START + timedelta(seconds=self.clock.now, microseconds=len(self.log))
        self.log.append(line(moment, severity, self.state, message))

    def _consume(self) -> None:
        while self.states and self.clock.now >= self.due and (not self.waiting or self.requests):
            if self.waiting:
                self.requests.pop(0)
                self.waiting = False
                # Further requests reach a job that does not wait, and fill the server's log with errors.
                self.refused += len(self.requests)
                self.requests.clear()
            self.state = self.states.pop(0)
            self.waiting = self.state in self.pauses
            self._say(Severity.INFO, f"New state: {self.state}")
            if "FAILED" in self.state:
                self._say(Severity.ERROR, "csldIndex: no such file")
                self._say(Severity.ERROR, "Consolidation failed")
            self.due += self.delay

    def job(self, id_or_name: str) -> JobState:
        assert id_or_name in ("id-1", "one")
        self.calls += 1
        if self.fault is not None and self.calls % 2 == 0:
            raise self.fault
        self._consume()
        job = JobState(
            id="id-1",
            name="one",
            kind="consolidation",
            state=self.state,
            waiting=self.waiting,
            level=self.level,
            created=START,
            updated=START,
            log=tuple(self.log),
        )
        return read_log(job)

    def jobs(self, pattern: str = "") -> list[JobState]:
        del pattern
        return [self.job("id-1")]

    def continue_job(self, job_id: str) -> None:
        assert job_id == "id-1"
        self.requests.append(self.state)
        self.due = max(self.due, self.clock.now + self.delay)

    def consolidate(self, consolidation: Consolidation) -> str:
        raise AssertionError(consolidation)

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        raise AssertionError(job_id, force)

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        raise AssertionError(job_id, force)


def yes(job: JobState) -> bool:
    return job.waiting


def test_a_job_without_pauses_is_followed_and_reported_line_by_line() -> None:
    clock, events = Clock(), list[JobEvent]()
    queue = Queue(clock)
    ending = follow(queue, "one", on_event=events.append, clock=clock)
    assert (ending.end, ending.error, ending.warning) == (End.DONE, "", "")
    assert require_done(ending) == ending.job
    entered = [event.job.state for event in events if event.entered]
    assert entered == [state for state in ("NEW", *HAPPY) if state in entered]
    assert (entered[0], entered[-1]) == ("NEW", "DONE")
    assert [text for event in events for text in event.lines] == queue.log


@settings(deadline=None)
@given(delay=st.floats(0, 10), poll=st.floats(0.1, 20))
def test_each_pause_is_continued_once_however_late_the_server_reacts(delay: float, poll: float) -> None:
    clock, asked, events = Clock(), list[str](), list[JobEvent]()
    queue = Queue(clock, pauses=CRITICAL, level=Level.CRITICAL, delay=delay)

    def approve(job: JobState) -> bool:
        asked.append(job.state)
        return True

    ending = follow(queue, "id-1", approve, events.append, poll=poll, clock=clock, timeout=600)
    assert ending.end is End.DONE
    assert asked == ["CONSOLIDATIONINPROGRESS", "CONSOLIDATIONEFFECTIVE"]
    assert queue.refused == 0
    assert [event.job.state for event in events if event.continued] == asked


def test_a_state_that_is_entered_again_is_continued_again() -> None:
    clock, asked = Clock(), list[str]()
    again = ("CREATED", "CONSOLIDATIONINPROGRESS", "CONSOLIDATIONRETRYING", *HAPPY[1:])
    queue = Queue(clock, again, CRITICAL, Level.CRITICAL)

    def approve(job: JobState) -> bool:
        asked.append(job.state)
        return True

    assert follow(queue, "id-1", approve, clock=clock, poll=30).end is End.DONE
    assert asked.count("CONSOLIDATIONINPROGRESS") == 2


def test_a_job_without_approval_stays_paused() -> None:
    clock = Clock()
    queue = Queue(clock, pauses=CRITICAL, level=Level.CRITICAL)
    ending = follow(queue, "id-1", lambda job: job.state != "CONSOLIDATIONEFFECTIVE", clock=clock)
    assert (ending.end, ending.job.state) == (End.PAUSED, "CONSOLIDATIONEFFECTIVE")
    with pytest.raises(AcdError, match=r"ACD-716: job one is CONSOLIDATIONEFFECTIVE\. Continue the job, or cancel it"):
        require_done(ending)


def test_a_job_with_pauses_needs_an_approve_function() -> None:
    clock = Clock()
    with pytest.raises(AcdError, match="job one pauses") as caught:
        follow(Queue(clock, pauses=CRITICAL, level=Level.CRITICAL), "id-1", clock=clock)
    assert caught.value.code is ErrorCode.SETTING_INVALID
    assert "approve" in caught.value.fix


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize(
    "state", ["INITIALISATIONFAILED", "CONSOLIDATIONFAILED", "CANCELLATIONFAILED", "ROLLBACKFAILED", "DELETIONFAILED"]
)
def test_a_stuck_job_ends_the_following(state: str, waiting: bool) -> None:
    clock = Clock()
    queue = Queue(clock, ("CREATED", state), {state} if waiting else set(), Level.ALL if waiting else Level.CRITICAL)
    ending = follow(queue, "id-1", yes, clock=clock)
    assert (ending.end, ending.error) == (End.STUCK, "csldIndex: no such file")
    assert clock.now < 60
    assert queue.requests == []
    with pytest.raises(AcdError, match=f"job one is {state}: csldIndex: no such file.*retry") as caught:
        require_done(ending)
    assert caught.value.code is ErrorCode.JOB_STUCK


def test_the_bug_of_geocube_1_0_3_is_recognised() -> None:
    clock = Clock()
    queue = Queue(clock, ("CONSOLIDATIONFAILED",))
    queue.job("one")
    clock.now = 20
    queue.job("one")
    said = "csldIndex: A dataset with the status INACTIVE already refers to the container /c.tif, subdir 'GTIFF_DIR:2'"
    queue.log.insert(-1, line(START, Severity.ERROR, "CONSOLIDATIONFAILED", said))
    ending = follow(queue, "id-1", clock=clock)
    assert ending.error == said
    assert "cannot put two records into one container" in ending.advice


@pytest.mark.parametrize(
    ("states", "end"),
    [
        (("CREATED", "CONSOLIDATIONCANCELLING", "ABORTED", "FAILED"), End.CANCELLED),
        (("CREATED", "FAILED"), End.FAILED),
        (("CREATED", "DONEBUTUNTIDY"), End.DONE),
    ],
)
def test_other_endings(states: tuple[str, ...], end: End) -> None:
    clock = Clock()
    ending = follow(Queue(clock, states), "id-1", clock=clock)
    assert ending.end is end
    assert bool(ending.warning) == (end is End.DONE)
    if end is not End.DONE:
        with pytest.raises(AcdError) as caught:
            require_done(ending)
        assert caught.value.code is ErrorCode.JOB_FAILED


def test_a_timeout_ends_the_following() -> None:
    clock = Clock()
    queue = Queue(clock, delay=1000)
    ending = follow(queue, "id-1", clock=clock, timeout=90)
    assert (ending.end, ending.job.state) == (End.TIMED_OUT, "NEW")
    assert clock.now == pytest.approx(90)
    assert len(clock.sleeps) < 20
    assert clock.sleeps[0] == 1.0
    with pytest.raises(AcdError) as caught:
        require_done(ending)
    assert caught.value.code is ErrorCode.JOB_RUNNING


def test_a_job_that_does_not_continue_is_not_continued_again() -> None:
    clock = Clock()
    queue = Queue(clock, ("CONSOLIDATIONINPROGRESS", "DONE"), CRITICAL, Level.CRITICAL, delay=1)
    queue.job("one")
    clock.now = 2
    queue.job("one")
    queue.delay = 1e6
    ending = follow(queue, "id-1", yes, clock=clock, timeout=600)
    assert queue.requests == ["CONSOLIDATIONINPROGRESS"]
    assert ending.end is End.TIMED_OUT
    assert "workers" in ending.advice


def test_transient_errors_are_retried_and_permanent_ones_raised() -> None:
    gone = AcdError(ErrorCode.GEOCUBE_UNREACHABLE, "localhost:1 does not answer")
    clock = Clock()
    assert follow(Queue(clock, fault=gone), "id-1", clock=clock).end is End.DONE
    queue = Queue(Clock(), fault=AcdError(ErrorCode.GEOCUBE_DENIED, "no"))
    with pytest.raises(AcdError, match="ACD-701"):
        follow(queue, "id-1", clock=queue.clock)

    class Away(Queue):
        def job(self, id_or_name: str) -> JobState:
            raise gone

    clock = Clock()
    with pytest.raises(AcdError, match="ACD-700"):
        follow(Away(clock), "id-1", clock=clock, timeout=50)
    assert clock.now == pytest.approx(50)


def test_another_client_may_continue_the_job_first() -> None:
    class Faster(Queue):
        def continue_job(self, job_id: str) -> None:
            super().continue_job(job_id)
            raise AcdError(ErrorCode.JOB_STATE, f"job {job_id} does not wait")

    clock = Clock()
    assert follow(Faster(clock, pauses=CRITICAL, level=Level.CRITICAL), "id-1", yes, clock=clock).end is End.DONE


PREPARED = (
    "2026-11-23T03:29:43.60Z - DEBUG | Status: CREATED - Message: Prepare 1 container(s) with 60 record(s) and 61 "
    "dataset(s) (Cell:{cell}, geographic: [[7.01 50.1] [7.02 50.1]]) (id:{task})"
)
REPORTED = (
    "2026-11-23T03:29:53Z - DEBUG | Status: CONSOLIDATIONINPROGRESS - Message: TaskEvt received with status "
    "Task{status} (id:{task}, err:{reason})"
)


def test_tasks_are_parsed_from_the_log() -> None:
    log = [PREPARED.format(cell=f"8/-{n}", task=f"t{n}") for n in range(4)]
    log += [
        REPORTED.format(status="Failed", task="t1", reason="GDAL 4: no such file (404)"),
        REPORTED.format(status="Successful", task="t0", reason=""),
        REPORTED.format(status="Failed", task="t2", reason="lost"),
        REPORTED.format(status="Successful", task="t2", reason=""),
        REPORTED.format(status="Successful", task="elsewhere", reason=""),
    ]
    found = tasks_of(log)
    states = [found[f"8/-{n}"].state for n in range(4)]
    assert states == [TaskState.DONE, TaskState.FAILED, TaskState.DONE, TaskState.PREPARED]
    assert found["8/-1"].reason == "GDAL 4: no such file (404)"
    assert (found["8/-0"].records, found["8/-0"].datasets) == (60, 61)
    assert len(found) == 4


@settings(deadline=None)
@given(st.lists(st.text() | st.sampled_from(["Cell:", "Cell:8/1 in other words", "status TaskOdd (id:a)", "(id:"])))
def test_unknown_lines_do_not_break_the_parser(log: list[str]) -> None:
    found = tasks_of(log)
    assert set(found) >= {"8/1"} & set(" ".join(log).replace("Cell:", "").split())
    assert last_error(log) == ""


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=30), st.data())
def test_every_line_is_reported_once_whatever_part_is_shown(grown: list[int], data: st.DataObject) -> None:
    reader, log, reported = LogReader(), list[str](), list[str]()
    for count in grown:
        log += [f"line {len(log) + n}" for n in range(count)]
        hidden = data.draw(st.integers(0, max(len(log) - 4, 0)))
        shown = [f"[... {hidden} more]"] * bool(hidden) + log[hidden:]
        reported += reader.new_lines(shown)
    assert reported == log


def test_the_last_error_is_the_most_specific_one() -> None:
    said = [("ERROR", "first"), ("ERROR", "lost: /a.tif"), ("INFO", "x"), ("ERROR", "Consolidation failed")]
    log = [line(START, Severity(severity), "CONSOLIDATIONFAILED", message) for severity, message in said]
    assert last_error(log) == "lost: /a.tif"
    assert last_error(log[-1:]) == "Consolidation failed"


def test_a_running_job_has_no_ending() -> None:
    assert ending_of(Queue(Clock()).job("one")) is None
