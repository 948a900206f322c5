"""The conformance command: right on other shapes, and it notices what is wrong.

The expected values here are plain numpy, written from the papers' formulas,
with gradients by finite differences.
"""

import json
import pathlib

import numpy as np
import pytest

from tests.conformance import rl

FILE = pathlib.Path(__file__).parents[1] / "vectors/rl.json"


def make_inputs(groups=3, size=4, steps=7):
  rng, rows = np.random.default_rng(5), groups * size
  mask = rng.random((rows, steps)) < 0.75
  mask[:, 0] = True
  old = -rng.gamma(1.5, 0.8, (rows, steps))
  near = lambda scale: old + rng.normal(0, scale, old.shape)  # noqa: E731
  parts = np.stack([rng.integers(0, 2, rows), rng.random(rows)], 1)
  weights = np.array([1.0, 0.5])
  return {
    "logps": np.minimum(near(0.35), -1e-3),
    "old_logps": old,
    "ref_logps": near(0.3),
    "sampler_logps": near(0.25),
    "mask": mask.astype(float),
    "entropies": rng.gamma(1.2, 0.7, old.shape),
    "rewards_per_func": parts.astype(float),
    "reward_weights": weights,
    "rewards": parts @ weights,
    "num_generations": size,
    "max_completion_length": 11,
  }


INPUTS = make_inputs()
MASK = INPUTS["mask"].astype(bool)
LENGTH = MASK.sum(1, keepdims=True)
GROUPS = len(MASK) // INPUTS["num_generations"]


def by_group(x):
  return x.reshape(GROUPS, -1)


def centred(rewards=INPUTS["rewards"]):
  each = by_group(rewards)
  return (each - each.mean(1, keepdims=True)).ravel()


def spread(x):
  return np.repeat(by_group(x).std(1, ddof=1), INPUTS["num_generations"])


GRPO = centred() / (spread(INPUTS["rewards"]) + 1e-4)
A = GRPO[:, None]


def live(x):
  return np.where(MASK, x, 0.0)


def each_sequence(x):
  return (live(x).sum(1) / LENGTH[:, 0]).mean()


def each_token(x):
  return live(x).sum() / MASK.sum()


def ratio(logps):
  return np.exp(live(logps - INPUTS["old_logps"]))


def clipped(r, low=0.2, high=0.2):
  return -np.minimum(r * A, np.clip(r, 1 - low, 1 + high) * A)


def mean_ratio(logps):
  mean = live(logps - INPUTS["old_logps"]).sum(1, keepdims=True) / LENGTH
  return np.broadcast_to(np.exp(mean), MASK.shape)


def k3(logps):
  x = live(logps - INPUTS["ref_logps"])
  return np.exp(-x) + x - 1


def fixed(weight):
  """A weight that no gradient goes through: made at the inputs' logps."""
  return weight(INPUTS["logps"])


def held_product():
  w = np.exp(live(INPUTS["old_logps"] - INPUTS["sampler_logps"]).sum(1))
  return np.where(w <= 3, w, 0.0)[:, None]


def stale():
  gap = live(INPUTS["sampler_logps"] - INPUTS["logps"]).sum(1) / LENGTH[:, 0]
  return (gap > 0.1)[:, None] & (A < 0)


def phi():
  w = np.exp(live(INPUTS["logps"] - INPUTS["old_logps"]).sum(1))[:, None]
  up = np.exp(3 + 2 * np.log(w) - 3 * w)
  return np.where(A >= 0, up, np.exp(2 + 3 * np.log(w) - 2 * w))


def tau():
  return np.where(A > 0, 1.0, 1.05)


def moved():
  return np.exp(INPUTS["logps"]) - np.exp(INPUTS["old_logps"])


def entropy_edge():
  return np.quantile(INPUTS["entropies"][MASK], 0.8)


def without_row5(x, per_token):
  kept = live(x)
  kept[5] = 0
  if per_token:
    return kept.sum() / (MASK.sum() - MASK[5].sum())
  return (kept.sum(1) / LENGTH[:, 0]).mean()


def dual(r):
  loss = clipped(r)
  return np.where(A < 0, np.minimum(loss, -3 * A), loss)


R = ratio(INPUTS["logps"])
LOSSES = {
  "grpo": lambda p: each_sequence(clipped(ratio(p))),
  "grpo_clip_higher_0.28": lambda p: each_sequence(
    clipped(ratio(p), high=0.28)
  ),
  "grpo_two_sided_delta_1.5": lambda p: each_sequence(
    -np.minimum(np.minimum(ratio(p), 1.5) * A, np.clip(ratio(p), 0.8, 1.2) * A)
  ),
  "grpo_dual_clip_3": lambda p: each_sequence(dual(ratio(p))),
  "grpo_beta0.04_k3": lambda p: each_sequence(clipped(ratio(p)) + 0.04 * k3(p)),
  "grpo_beta0.04_k3_bias_corrected": lambda p: each_sequence(
    clipped(ratio(p)) + 0.04 * ratio(p) * k3(p)
  ),
  "grpo_is_token_truncate_2": lambda p: each_sequence(
    clipped(ratio(p))
    * np.minimum(np.exp(INPUTS["old_logps"] - INPUTS["sampler_logps"]), 2)
  ),
  "grpo_offpolicy_seq_mask_0.1": lambda p: each_sequence(
    np.where(stale(), 0, clipped(ratio(p)))
  ),
  "grpo_row5_fully_masked": lambda p: without_row5(clipped(ratio(p)), False),
  "bnpo_or_dapo_token_mean": lambda p: each_token(clipped(ratio(p))),
  "dapo_clip_higher_0.28": lambda p: each_token(clipped(ratio(p), high=0.28)),
  "dapo_clip_higher_beta0.04": lambda p: each_token(
    clipped(ratio(p), high=0.28) + 0.04 * k3(p)
  ),
  "dapo_is_sequence_mask_3": lambda p: each_token(
    clipped(ratio(p)) * held_product()
  ),
  "dapo_top20pct_entropy": lambda p: each_token(
    np.where(INPUTS["entropies"] >= entropy_edge(), clipped(ratio(p)), 0)
  ),
  "dapo_row5_fully_masked": lambda p: without_row5(clipped(ratio(p)), True),
  "dr_grpo_mean_only_adv": lambda p: (
    live(
      -np.minimum(
        ratio(p) * centred()[:, None],
        np.clip(ratio(p), 0.8, 1.2) * centred()[:, None],
      )
    ).sum()
    / (len(MASK) * 11)
  ),
  "dr_grpo_std_adv": lambda p: live(clipped(ratio(p))).sum() / (len(MASK) * 11),
  "gspo_eps0.2": lambda p: each_sequence(clipped(mean_ratio(p))),
  "gspo_paper_3e-4_4e-4": lambda p: each_sequence(
    clipped(mean_ratio(p), 3e-4, 4e-4)
  ),
  "gspo_token_eps0.2": lambda p: each_sequence(
    clipped(mean_ratio(INPUTS["logps"]) * np.exp(live(p - INPUTS["logps"])))
  ),
  "luspo_eps0.2": lambda p: live(clipped(mean_ratio(p))).sum() / len(MASK),
  "cispo_trl_max5": lambda p: each_token(-np.minimum(R, 5) * A * p),
  "cispo_trl_max1.2": lambda p: each_token(-np.minimum(R, 1.2) * A * p),
  "cispo_two_sided_0.8_1.2 (verl)": lambda p: each_token(
    -np.clip(R, 0.8, 1.2) * A * p
  ),
  "sapo_1_1.05": lambda p: each_sequence(
    -4 / tau() / (1 + np.exp(-tau() * (ratio(p) - 1))) * A
  ),
  "vespo": lambda p: each_token(-phi() * A * p),
  "dppo_tv_0.15": lambda p: each_token(
    np.where(
      ((A > 0) & (moved() > 0.15)) | ((A <= 0) & (moved() < -0.15)),
      0,
      -np.minimum(R, 20) * A * p,
    )
  ),
}


def slope(loss):
  """d loss / d logps by central differences."""
  out, step = np.zeros(MASK.shape), 1e-6
  for at in np.ndindex(MASK.shape):
    high, low = INPUTS["logps"].copy(), INPUTS["logps"].copy()
    high[at] += step
    low[at] -= step
    out[at] = (loss(high) - loss(low)) / (2 * step)
  return out


def gdpo():
  parts = INPUTS["rewards_per_func"].T
  each = [centred(r) / (spread(r) + 1e-4) for r in parts]
  total = INPUTS["reward_weights"] @ np.array(each)
  return (total - total.mean()) / (total.std(ddof=1) + 1e-4)


def whitened():
  each = np.repeat(centred(), LENGTH[:, 0])
  return (centred() - each.mean()) / each.std(ddof=1)


def abstained():
  rest = np.delete(INPUTS["rewards"][: INPUTS["num_generations"]], 1)
  out = GRPO.copy()
  scaled = (rest - rest.mean()) / (rest.std(ddof=1) + 1e-4)
  out[: INPUTS["num_generations"]] = np.insert(scaled, 1, 0.0)
  return out


def expected():
  """A file of every case, of another shape than the one in the repository."""
  gap = live(INPUTS["old_logps"] - INPUTS["sampler_logps"])
  w, product = np.exp(gap), np.exp(gap.sum(1))
  return {
    "inputs": INPUTS,
    "advantages": {
      "grpo_ddof1_eps1e-4 (TRL)": GRPO,
      "grpo_ddof1_eps1e-6 (verl, Tunix)": centred()
      / (spread(INPUTS["rewards"]) + 1e-6),
      "dr_grpo_mean_only": centred(),
      "rloo": centred() * 4 / 3,
      "batch_std_eps1e-4 (TRL scale_rewards=batch)": centred()
      / (INPUTS["rewards"].std(ddof=1) + 1e-4),
      "gdpo_eps1e-4 (TRL normalize_then_sum)": gdpo(),
      "reinforce_pp_baseline_token_whitened (verl)": live(whitened()[:, None]),
      "nan_reward_row1_rewards_others_same": abstained(),
    },
    "losses": {
      name: {"loss": loss(INPUTS["logps"]), "grad_logps": slope(loss)}
      for name, loss in LOSSES.items()
    },
    "sampler_is": {
      "token_truncate_2": np.minimum(w, 2),
      "token_mask_0.5_2": np.where((w >= 0.5) & (w <= 2), w, 0),
      "sequence_truncate_3": np.minimum(product, 3),
      "sequence_mask_3": held_product()[:, 0],
      "geo_mean_ratio": np.exp(gap.sum(1) / LENGTH[:, 0]),
      "abs_diff_mean": np.abs(gap)[MASK].mean(),
      "abs_diff_max": np.abs(gap)[MASK].max(),
      "mismatch_k3_mean": (w - 1 - gap)[MASK].mean(),
    },
    "offpolicy_seq_mask": 1 - stale()[:, 0].astype(float),
    "entropy_quantile_0.8_threshold": entropy_edge(),
    "overlong(max16,cache4)": {"12": 0, "13": -0.25, "16": -1, "20": -1},
  }


@pytest.fixture(scope="module")
def other():
  plain = lambda x: x.tolist() if hasattr(x, "tolist") else x  # noqa: E731
  return json.loads(json.dumps(expected(), default=plain))


def run(tmp_path, content):
  path = tmp_path / "vectors.json"
  path.write_text(json.dumps(content))
  return rl.main([str(path)])


def test_the_file_of_the_repository_agrees(capsys):
  assert rl.main([str(FILE)]) == 0
  assert "logits/T=0.7" in capsys.readouterr().out


@pytest.mark.ci
def test_every_case_agrees_with_plain_numpy_on_another_shape(
  other, tmp_path, capsys
):
  assert set(other["losses"]) == set(rl.loss_cases(8))
  assert run(tmp_path, other) == 0, capsys.readouterr().out
  shown = capsys.readouterr().out
  assert "losses/vespo" in shown and "gradient" in shown


@pytest.mark.ci
@pytest.mark.parametrize(
  ("section", "name", "key"),
  [
    ("losses", "sapo_1_1.05", "loss"),
    ("losses", "luspo_eps0.2", "grad_logps"),
    ("advantages", "rloo", None),
    ("sampler_is", "abs_diff_max", None),
  ],
)
def test_a_value_that_is_off_is_noticed(other, tmp_path, section, name, key):
  spoiled = json.loads(json.dumps(other))
  place = spoiled[section] if key is None else spoiled[section][name]
  key = name if key is None else key
  place[key] = (np.array(place[key]) + 3e-6).tolist()
  assert run(tmp_path, spoiled) == 1


@pytest.mark.ci
@pytest.mark.parametrize(
  ("section", "name"), [("losses", "ppo"), ("sampler_is", "x"), ("new", None)]
)
def test_a_case_that_is_not_known_is_named_and_the_rest_compared(
  other, tmp_path, capsys, section, name
):
  more = {section: {**other.get(section, {}), name or "y": {}}}
  more = {"inputs": other["inputs"]} | more | other | more
  assert run(tmp_path, more) == 0
  shown = capsys.readouterr()
  label = f"{section}/{name}" if name else section
  assert f"case {label} is not known" in shown.err
  assert "advantages/rloo" in shown.out and "1 not known" in shown.out
  more["advantages"] = other["advantages"] | {"rloo": [9.0] * len(MASK)}
  assert run(tmp_path, more) == 1


@pytest.mark.ci
def test_sections_that_begin_with_losses_are_losses(other, tmp_path, capsys):
  more = {"inputs": other["inputs"], "losses_more": other["losses"]}
  assert run(tmp_path, more) == 0
  assert "losses_more/vespo" in capsys.readouterr().out
  off = other["losses"] | {"grpo": {"loss": 9.0}}
  assert run(tmp_path, more | {"losses 2": off}) == 1


@pytest.mark.parametrize("nested", [False, True])
def test_the_off_policy_mask_may_say_its_threshold(other, tmp_path, nested):
  gap = live(INPUTS["sampler_logps"] - INPUTS["logps"]).sum(1) / LENGTH[:, 0]
  kept = lambda most: (~((gap > most) & (GRPO < 0))).astype(int)  # noqa: E731
  assert (kept(0.1) != kept(0.02)).any()

  def file(threshold, keep):
    form = {"threshold": threshold, "keep": keep.tolist()}
    form = {"a": form} if nested else form
    return {"inputs": other["inputs"], "offpolicy_seq_mask": form}

  assert run(tmp_path, file(0.02, kept(0.02))) == 0
  assert run(tmp_path, file(0.02, kept(0.1))) == 1


def test_a_file_of_which_nothing_is_known_fails(other, tmp_path):
  assert run(tmp_path, {"inputs": other["inputs"], "new": {}}) == 1


def test_another_file_is_one_line(tmp_path, capsys):
  assert run(tmp_path, {"inputs": {}}) == 2
  assert rl.main([str(tmp_path / "none.json")]) == 2
  assert capsys.readouterr().err.count("\n") == 2
