"""Keeps a run going through preemptions, and knows when to give up.

What to do next is one pure function of what is seen, `decide`; the loop around
it looks, counts and acts. Every way to try again is counted against a budget,
so that it ends whatever the cloud does.
"""

import contextlib
import dataclasses
import enum
import random
import time
from collections.abc import Callable

from cooper_jax.errors import (
  EXIT_DONE,
  EXIT_NUMERICS,
  EXIT_PREEMPTED,
  EXIT_USER,
  EXIT_WATCHDOG,
  UserError,
)
from launch.hosts import Job
from launch.pod import SILENT_POLLS
from launch.request import State
from launch.shell import CommandFailed, is_transient

POLL_S = 60
SETTLE_S = 30  # a machine that is taken away is called active for a while
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30, 1800
EXIT_FAILED = 1
# The same config would end the same way.
FINAL = {EXIT_USER: "bad config", EXIT_NUMERICS: "training is lost"}


class Action(enum.Enum):
  """What can be done next."""

  CREATE = "create"
  RECREATE = "recreate"
  RUN = "run"
  WAIT = "wait"
  FINISH = "finish"
  STOP = "stop"


@dataclasses.dataclass(frozen=True)
class Counters:
  """What has been counted so far, or how much of it is allowed, in all."""

  preemptions: int = 0
  failures: int = 0
  stalls: int = 0  # attempts in a row that saved nothing new


BUDGETS = Counters(preemptions=30, failures=3, stalls=3)


@dataclasses.dataclass(frozen=True)
class Decision:
  """An action, why, and the counter that it is charged to."""

  action: Action
  reason: str
  charge: str = ""


def decide(
  state: State,
  outcome: Job | int,
  counters: Counters = Counters(),
  budgets: Counters = BUDGETS,
  *,
  asked: bool = False,
) -> Decision:
  """Gives what to do about machines in `state` and a run with `outcome`.

  asked: whether machines were asked for before.
  A run on machines that are gone was preempted, whatever its exit code says:
  JAX aborts the processes that lose another.
  """
  if outcome == EXIT_DONE:
    return Decision(Action.FINISH, "the run is done")
  if outcome in FINAL:
    return Decision(Action.STOP, f"exit code {outcome}, {FINAL[outcome]}")
  active = state is State.ACTIVE
  if outcome is Job.IDLE:
    if active:
      return Decision(Action.RUN, "all hosts are up")
    if state is State.ABSENT and not asked:
      return Decision(Action.CREATE, "there are no machines")
    if state is State.WAITING:
      return Decision(Action.WAIT, "waiting for machines")
  if active and outcome is Job.RUNNING:
    return Decision(Action.WAIT, "it runs")
  if isinstance(outcome, int):
    reason = f"exit code {outcome}, machines {state.value}"
  else:
    reason = f"run {outcome.value}, machines {state.value}"
  taken = not active or outcome in (Job.LOST, EXIT_PREEMPTED)
  charge = "preemptions" if taken else "failures"
  for name in ("stalls", charge):
    if getattr(counters, name) >= getattr(budgets, name):
      return Decision(
        Action.STOP,
        f"{reason}; {getattr(counters, name)} {name}, no more are allowed",
      )
  # Silent hosts are replaced; others only get the program started again.
  again = active and outcome is not Job.LOST
  return Decision(Action.RUN if again else Action.RECREATE, reason, charge)


def pause(tries: int, rng: random.Random) -> float:
  """Seconds before another try: doubling, and never the same for two."""
  longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 16))
  return longest * rng.uniform(0.5, 1.0)


class Babysitter:
  """The loop: looks, decides, acts, until the run is done or given up."""

  def __init__(
    self,
    pod,
    *,
    budgets: Counters = BUDGETS,
    wait_s: float,
    quiet_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
  ):
    self._pod, self._budgets, self._counters = pod, budgets, Counters()
    self._wait_s, self._quiet_s = wait_s, quiet_s
    self._clock, self._sleep = clock, sleep
    self._rng = rng or random.Random()
    self._outcome: Job | int = Job.IDLE
    self._fresh = True  # the machines have yet to be set up
    self._saved = ""  # what the last attempt had reached
    self._progress, self._heard = "", clock()
    # Ever, and how often since it last ran.
    self._asked_before, self._asked = False, 0

  def _look(self) -> State:
    """Brings the outcome up to date; gives the state of the machines."""
    state = self._pod.status().state
    if state is not State.ACTIVE or self._outcome is not Job.RUNNING:
      return state
    look, now = self._pod.look(), self._clock()
    self._outcome = look.outcome
    if look.progress and look.progress != self._progress:
      self._progress, self._heard = look.progress, now
    if look.outcome is Job.RUNNING and now - self._heard > self._quiet_s:
      self._outcome = EXIT_WATCHDOG
    if self._outcome not in (Job.RUNNING, Job.IDLE, EXIT_DONE, *FINAL):
      self._sleep(SETTLE_S)
      state = self._pod.status().state
    return state

  def _note_end(self) -> None:
    """An attempt has ended: has it saved anything that was not there?"""
    moved = self._progress != self._saved
    stalls = 0 if moved else self._counters.stalls + 1
    self._counters = dataclasses.replace(self._counters, stalls=stalls)
    self._saved = self._progress

  def _create(self) -> None:
    """Asks for machines and waits; a refusal that may pass is waited out."""
    if self._asked_before:
      seconds = pause(self._counters.stalls + self._asked, self._rng)
      self._pod.say(f"asking again in {seconds:.0f} s")
      self._sleep(seconds)
    self._asked_before, self._asked = True, self._asked + 1
    self._outcome, self._fresh = Job.IDLE, True
    try:
      self._pod.create()
    except CommandFailed as error:
      if not error.transient:
        raise
      self._pod.say(str(error))
    else:
      self._await()

  def _await(self) -> None:
    found = self._pod.wait(self._wait_s)
    failed = found.state is State.FAILED and found.detail
    if failed and not is_transient(found.detail):
      raise UserError(f"the machines can't be made: {found.detail}")

  def _run(self) -> None:
    try:
      if self._fresh:
        self._pod.setup()
        self._fresh = False
      self._pod.start()
      self._outcome, self._heard = Job.RUNNING, self._clock()
      self._asked = 0
    except CommandFailed as error:
      self._pod.say(str(error))
      self._outcome = EXIT_FAILED

  def _act(self, decision: Decision) -> None:
    """Does what was decided, and counts it."""
    charge = decision.charge
    if charge:
      count = getattr(self._counters, charge) + 1
      self._counters = dataclasses.replace(self._counters, **{charge: count})
      self._pod.say(f"{decision.reason}: {decision.action.value}")
    if decision.action is Action.RECREATE:
      self._pod.delete()
      self._asked_before = True
    if decision.action is Action.RUN and charge:
      self._stop()
      failed = self._counters.stalls + self._counters.failures
      self._sleep(pause(failed, self._rng))
    if decision.action is Action.RUN:
      self._run()
    elif decision.action is not Action.WAIT:
      self._create()
    elif self._outcome is Job.IDLE:
      self._await()
    else:
      self._sleep(POLL_S)

  def watch(self) -> int:
    """Gives the exit code that the whole thing ends with."""
    if self._pod.status().state is State.ACTIVE and self._runs():
      self._outcome, self._fresh = Job.RUNNING, False  # taken over: look first
    while True:
      ran = self._outcome is Job.RUNNING
      state = self._look()
      runs = state is State.ACTIVE and self._outcome is Job.RUNNING
      if ran and not runs and self._outcome is not Job.IDLE:
        self._note_end()
      decision = decide(
        state,
        self._outcome,
        self._counters,
        self._budgets,
        asked=self._asked_before,
      )
      if decision.action is Action.FINISH:
        self._pod.say(decision.reason)
        return EXIT_DONE
      if decision.action is Action.STOP:
        return self._give_up(state, decision.reason)
      self._act(decision)

  def _runs(self) -> bool:
    """Whether something runs on machines that are there.

    What ended there is no answer for what is to run now, and the code may be
    another: such machines are set up again.
    """
    for _ in range(SILENT_POLLS):
      if reports := self._pod.reports():
        return any(each.state == "running" for each in reports)
      self._sleep(POLL_S)
    return False

  def _stop(self) -> None:
    # Some of the hosts may be why it has to be stopped.
    with contextlib.suppress(CommandFailed):
      self._pod.stop()

  def _give_up(self, state: State, reason: str) -> int:
    if state is State.ACTIVE:
      self._stop()
      # The first host's log seldom has the cause, and all will be gone.
      with contextlib.suppress(CommandFailed):
        self._pod.logs(worker="all", lines=40)
    self._pod.say(f"giving up: {reason}")
    # On machines that are gone the exit code is that of being cut off.
    telling = state is State.ACTIVE or self._outcome in FINAL
    known = telling and isinstance(self._outcome, int)
    return self._outcome if known else EXIT_WATCHDOG
