"""The decision for every case, and a loop that ends whatever happens."""

import itertools
import random

import pytest

from cooper_jax.errors import UserError
from launch.babysit import (
  BUDGETS,
  Action,
  Babysitter,
  Counters,
  decide,
  pause,
)
from launch.hosts import Job, Report, combine
from launch.pod import Look
from launch.request import State, Status
from launch.shell import CommandFailed

GONE = [State.ABSENT, State.SUSPENDED, State.FAILED, State.DELETING]
CODES = [0, 1, 2, 42, 43, 75, 134, -6, 137, 143]
OUTCOMES = [*Job, *CODES]


def expected(state, outcome):
  """The table, written out: action and what it is charged to."""
  if outcome == 0:
    return Action.FINISH, ""
  if outcome in (2, 43):
    return Action.STOP, ""
  if outcome is Job.IDLE:
    return {
      State.ABSENT: (Action.CREATE, ""),
      State.WAITING: (Action.WAIT, ""),
      State.ACTIVE: (Action.RUN, ""),
    }.get(state, (Action.RECREATE, "preemptions"))
  if state is not State.ACTIVE:
    return Action.RECREATE, "preemptions"
  return {
    Job.RUNNING: (Action.WAIT, ""),
    Job.LOST: (Action.RECREATE, "preemptions"),
    75: (Action.RUN, "preemptions"),
  }.get(outcome, (Action.RUN, "failures"))


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("state", State)
def test_every_state_and_exit_code_has_its_action(state, outcome):
  made = decide(state, outcome)
  assert (made.action, made.charge) == expected(state, outcome)
  assert made.reason


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("state", State)
def test_what_is_charged_is_refused_when_the_budget_is_spent(state, outcome):
  _, charge = expected(state, outcome)
  if charge:
    spent = Counters(**{charge: getattr(BUDGETS, charge)})
    assert decide(state, outcome, spent).action is Action.STOP
    last = Counters(**{charge: getattr(BUDGETS, charge) - 1})
    assert decide(state, outcome, last).action is not Action.STOP
    stalled = Counters(stalls=BUDGETS.stalls)
    assert decide(state, outcome, stalled).action is Action.STOP


def test_a_preemption_does_not_burn_the_failures():
  # JAX aborts the others when one host is taken away: looks like a crash.
  spent = Counters(failures=BUDGETS.failures)
  assert decide(State.SUSPENDED, 134, spent).action is Action.RECREATE
  assert decide(State.ACTIVE, 134, spent).action is Action.STOP


def test_pauses_double_up_to_a_limit_and_differ():
  longest = [
    max(pause(n, random.Random(s)) for s in range(40)) for n in range(9)
  ]
  assert longest[0] <= 30 and longest[8] <= 1800
  for before, after in itertools.pairwise(longest[:6]):
    assert 1.8 * before < after < 2.2 * before
  assert len({pause(3, random.Random(seed)) for seed in range(9)}) == 9


def reports(*states):
  """In: "running", "ended 75"   Out: a report of each host."""
  made = []
  for number, text in enumerate(states):
    state, _, code = text.partition(" ")
    made.append(Report(f"h{number}", state, int(code) if code else None, ""))
  return made


@pytest.mark.parametrize(
  ("states", "outcome"),
  [
    (["running"] * 4, Job.RUNNING),
    (["idle"] * 4, Job.IDLE),
    (["ended 0"] * 4, 0),
    # Ahead of the others, not done.
    (["ended 0", "running", "running", "running"], Job.RUNNING),
    # One cause, and three that were aborted for it, whatever its number.
    (["ended 134", "ended 134", "ended 1", "ended 134"], 1),
    (["ended 134", "ended 43", "ended 134", "ended 1"], 43),
    (["ended 2", "ended 134", "ended 1", "ended 134"], 2),
    (["ended 75", "ended 134", "ended 0", "ended 134"], 75),
    (["ended 42", "ended 134", "running", "running"], 42),
    (["running", "running", "running"], Job.LOST),  # one is silent
    ([], Job.LOST),
    (["running", "lost", "running", "running"], Job.LOST),
    (["running", "idle", "running", "running"], Job.LOST),
  ],
)
def test_hosts_are_read_together(states, outcome):
  assert combine(reports(*states), 4) == outcome


class FakePod:
  """Machines and a run on a clock of their own, from a list of events."""

  def __init__(self, events, *, rng=None):
    self.events, self.now, self.did = list(events), 0.0, []
    self.state, self.rng = State.ABSENT, rng
    self.outcome, self.progress = Job.IDLE, ""

  def clock(self):
    return self.now

  def sleep(self, seconds):
    assert seconds >= 0
    self.now += seconds

  def _next(self):
    if self.rng is not None:
      return self.rng.choice(EVENTS)
    return self.events.pop(0) if self.events else "done"

  def say(self, line):
    pass

  def status(self):
    return Status(self.state, self.state.value)

  def reports(self):
    if self.outcome is Job.IDLE:
      return []
    runs = self.outcome is Job.RUNNING
    return reports("running" if runs else f"ended {self.outcome}")

  def create(self):
    self.did.append("create")
    event = self._next()
    if event in ("no capacity", "quota"):
      raise CommandFailed(f"create: {ERRORS[event]}")
    self.state, self.outcome = State.ACTIVE, Job.IDLE
    if isinstance(event, State):
      self.state = event

  def wait(self, limit_s):
    if self.state is State.WAITING:
      self.now += limit_s
      raise UserError("did not come up")
    return self.status()

  def setup(self):
    self.did.append("setup")

  def start(self):
    self.did.append("start")
    self.outcome = Job.RUNNING

  def look(self):
    event = self._next()
    if event == "step":
      self.progress += "x"
    elif event == "preempted":
      self.state, self.outcome = State.SUSPENDED, 134
    elif event == "done":
      self.outcome = 0
    elif isinstance(event, (int, Job)):
      self.outcome = event
    return Look(self.outcome, self.progress)

  def stop(self):
    self.did.append("stop")

  def logs(self, *, worker, lines):
    assert worker == "all"
    self.did.append("logs")

  def delete(self):
    self.did.append("delete")
    self.state, self.outcome = State.ABSENT, Job.IDLE


ERRORS = {"no capacity": "There is no more capacity", "quota": "Quota exceeded"}
EVENTS = ["step", "preempted", "no capacity", "quota", *State, *OUTCOMES]


def sit(events, *, rng=None, **more):
  """Runs the loop: exit code, what it did, the pod."""
  pod = FakePod(events, rng=rng)
  sitter = Babysitter(
    pod,
    wait_s=3600,
    quiet_s=7200,
    clock=pod.clock,
    sleep=pod.sleep,
    rng=random.Random(0),
    **more,
  )
  return sitter.watch(), pod.did, pod


def test_a_run_without_trouble():
  code, did, _ = sit(["up", "step", "step", "done"])
  assert (code, did) == (0, ["create", "setup", "start"])


def test_a_preempted_run_gets_new_machines_and_goes_on():
  code, did, _ = sit(["up", "step", "preempted", "up", "step", "done"])
  assert code == 0
  assert did == (
    ["create", "setup", "start", "delete", "create", "setup", "start"]
  )


def test_a_run_that_saved_and_stopped_is_started_where_it_is():
  code, did, _ = sit(["up", "step", 75, "step", "done"])
  assert (code, did) == (0, ["create", "setup", "start", "stop", "start"])


@pytest.mark.parametrize("code", [2, 43])
def test_what_would_end_the_same_way_is_not_tried_again(code):
  ended, did, _ = sit(["up", code])
  assert ended == code and did.count("start") == 1
  assert did[-1] == "logs"  # the reason is shown before all is deleted


def test_failures_have_a_budget_even_where_it_gets_on():
  ended, did, _ = sit(["up"] + ["step", 1] * 20)
  assert ended == 1
  assert did.count("start") == BUDGETS.failures + 1


def test_no_progress_ends_it_though_preemptions_are_left():
  ended, did, _ = sit(["up", "step"] + ["preempted", "up"] * 20)
  # The first attempt saved something; three more saved nothing new.
  assert did.count("start") == 1 + BUDGETS.stalls
  assert ended == 42


def test_preemptions_with_progress_go_on_up_to_their_budget():
  budgets = Counters(preemptions=5, failures=3, stalls=3)
  ended, did, _ = sit(
    ["up"] + ["step", "preempted", "up"] * 20, budgets=budgets
  )
  assert did.count("start") == 6 and ended == 42


def test_a_hang_counts_as_a_failure():
  ended, did, pod = sit(["up", "step"] + [Job.RUNNING] * 10**4)
  assert ended == 42
  assert did.count("start") == 1 + BUDGETS.stalls  # only the first one saved
  assert 4 * 7200 < pod.now < 5 * 7200


def test_missing_capacity_is_waited_for_and_quota_is_not():
  code, did, pod = sit(["no capacity", "no capacity", "up", "done"])
  assert code == 0 and did.count("create") == 3
  assert pod.now > 30 + 15  # not at once
  with pytest.raises(CommandFailed, match="Quota"):
    sit(["quota"])


def test_capacity_that_never_comes_ends_it():
  budgets = Counters(preemptions=4, failures=3, stalls=3)
  ended, did, _ = sit(["no capacity"] * 99, budgets=budgets)
  assert ended == 42 and did.count("create") == 1 + budgets.preemptions


@pytest.mark.parametrize("seed", range(300))
def test_the_loop_ends_whatever_the_cloud_does(seed):
  """Random events for ever: every try is counted, so it must end."""
  rng = random.Random(seed)
  budgets = Counters(preemptions=6, failures=3, stalls=4)
  try:
    code, did, pod = sit([], rng=rng, budgets=budgets)
    assert code in (*CODES, 42)
  except UserError:  # quota, or machines that never came up
    return
  tries = 1 + budgets.preemptions + budgets.failures
  assert did.count("start") <= tries
  assert did.count("create") <= tries
  assert pod.now < tries * (1800 + 7200 + 3600) + 3600
