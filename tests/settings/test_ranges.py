"""Numbers that a setting can't be are refused at the start, by name."""

import dataclasses
import math

import pytest

from cooper_jax import command, main
from cooper_jax.errors import UserError
from cooper_jax.settings import checks, ranges
from cooper_jax.training import optim

SMOKE = "--config=configs/grpo.py:smoke"
STAGES = ("tokenizer", "pretrain", "sft", "grpo")


def config():
  return command.load_config("configs/grpo.py:smoke")


def put(settings, name, value):
  *sections, last = name.split(".")
  for section in sections:
    settings = settings[section]
  with settings.unlocked():
    settings[last] = value


def test_every_number_of_the_config_has_a_range():
  names = {name for name, _ in ranges.numbers(config())}
  assert len(names) > 150
  missing = sorted(name for name in names if ranges.find(name) is None)
  assert missing == []  # add a row to ranges.TABLE


def test_every_row_of_the_table_is_used():
  names = {name for name, _ in ranges.numbers(config())}
  with_weights = names | {"data.weights"}
  used = {id(ranges.find(name)) for name in with_weights}
  assert {k for k, r in ranges.TABLE.items() if id(r) not in used} == set()


@pytest.mark.parametrize(
  "variant", ["scratch", "smoke", "long", "tiny", "7b@v6e:16x16", "0p6b"]
)
def test_every_config_that_is_here_passes(variant):
  checks.validate(command.load_config(f"configs/grpo.py:{variant}"))


@pytest.mark.parametrize(
  ("settings", "said"),
  [
    ({"sampling.top_k": 9, "grpo.rl.updates": 2}, "top_k, top_p and min_p"),
    ({"sampling.code_top_k": 1}, "code_top_k is 1, which leaves the likeliest"),
    ({"sampling.min_p": 1.0}, "min_p is 1, .* allowed are numbers below 1"),
    ({"sampling.top_p": 0.9, "grpo.rl.minibatches": 2}, "likeliest are other"),
    ({"sampling.min_p": 0.1, "grpo.rl.pipeline": True}, "likeliest are other"),
    ({"sampling.code_top_k": 9, "grpo.rl.loss.kl_weight": 0.1}, "no KL"),
    ({"grpo.rl.settings.map_price.free": 1}, "map_price is None"),
    ({"grpo.rl.settings.user.function": "a.py:b"}, "user is None"),
    ({"grpo.rl.rewards.map_price": -0.1}, "pays for drawing"),
  ],
)
def test_settings_that_do_not_go_together_are_refused(settings, said):
  made = config()
  for name, value in settings.items():
    put(made, name, value)
  with pytest.raises(UserError, match=said) as caught:
    checks.validate(made)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39])
def test_no_number_may_be_none(bad):
  """In every place where a real number stands; 1e39 is inf on the device."""
  reals = [n for n, v in ranges.numbers(config()) if isinstance(v, float)]
  assert len(reals) > 80
  for name in reals:
    settings = config()
    value = settings
    for part in name.split("."):
      value = value[part]
    tuples = isinstance(value, tuple)
    put(settings, name, (*value[:-1], bad) if tuples else bad)
    with pytest.raises(UserError, match="allowed: finite") as said:
      checks.validate(settings)
    assert f"config.{name} is " in str(said.value)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
  ("field", "value", "said"),
  [
    ("learning_rate", -1.0, "0 and more"),
    ("adam_learning_rate", -1e-9, "0 and more"),
    ("weight_decay", -5.0, "0 and more"),
    ("clip_norm", -1.0, "0 (no limit) and more"),
    ("warmup_steps", -1, "0 and more"),
    ("beta1", 1.0, "0 to below 1"),
    ("beta1", -0.1, "0 to below 1"),
    ("beta2", 1.5, "0 to below 1"),
    ("momentum", 1.0, "0 to below 1"),
    ("epsilon", 0.0, "above 0"),
    ("decay_start", 1.1, "0 to 1"),
    ("final_fraction", -0.1, "0 to 1"),
    ("ema_decay", 1.0, "0 (none) to below 1"),
  ],
)
def test_an_optimiser_that_can_not_work_is_refused(stage, field, value, said):
  settings = config()
  put(settings, f"{stage}.optim.{field}", value)
  with pytest.raises(UserError) as error:
    checks.validate(settings)
  name = f"config.{stage}.optim.{field}"
  assert str(error.value).startswith(f"{name} is {value}; allowed: ")
  assert said in str(error.value)


def test_every_number_of_an_optimiser_has_limits():
  fields = [f.name for f in dataclasses.fields(optim.OptimConfig)]
  assert set(fields) - set(optim.LIMITS) == {"name", "schedule"}
  for field in optim.LIMITS:
    with pytest.raises(UserError, match=f"optim.{field} is nan"):
      optim.OptimConfig(**{field: math.nan})


@pytest.mark.parametrize(
  ("name", "value", "said"),
  [
    ("evaluate.questions", 0, "1 and more"),
    ("evaluate.questions", -3, "1 and more"),
    ("evaluate.batch", 0, "1 and more"),
    ("evaluate.heldout_questions", -1, "0 and more (0 = none)"),
    ("evaluate.blind_scenes", 0, "1 and more"),
    ("sampling.temperature", -1.0, "0 and more"),
    ("sampling.code_temperature", -0.1, "0 and more"),
    ("sampling.text", 0, "1 and more"),
    ("sampling.maps", -1, "0 and more"),
    ("sampling.prompt_buckets", (96, 0), "1 and more"),
    ("sampling.prompt_buckets", (), "name a length"),
    ("seed", -1, "0 to 2,000,000,000"),
    ("world.seed", -1, "0 to 2,000,000,000"),
    ("seed", 2**31, "allowed: finite numbers"),
    ("world.max_questions", 0, "1 and more"),
    ("world.camera_height", (0.9, 2.6), "from 0.3 to 2.5, the lower"),
    ("world.field_of_view", (72.0, 44.0), "from 20 to 100, the lower"),
    ("world.object_size", 2.0, "from 0.5 to 1.5"),
    ("world.object_size", 0.0, "above 0"),
    ("world.min_objects", 9, "must lie within"),
    ("data.workers", -1, "0 and more"),
    ("data.bad_samples", 1.5, "0 to 1"),
    ("data.weights", (0.0,), "above 0"),
    ("data.heldout_scenes", 0, "1 and more"),
    ("mesh.data", 0, "-1, and 1 and more"),
    ("mesh.tensor", -2, "-1, and 1 and more"),
    ("model.layers", 0, "1 and more"),
    ("model.d_model", 0, "1 and more"),
    ("model.kv_heads", 0, "1 and more"),
    ("model.norm_eps", 0.0, "above 0"),
    ("model.vision.patch", 0, "1 and more"),
    ("model.vision.heads", 0, "1 and more"),
    ("tokenizer.network.levels", (8, 1), "2 and more"),
    ("tokenizer.network.levels", (), "name a level"),
    ("tokenizer.network.blocks", -1, "0 and more"),
    ("tokenizer.network.width", 0, "1 and more"),
    ("tokenizer.image_every", -1, "0 and more"),
    ("pretrain.code_noise", 1.5, "0 to 1"),
    ("pretrain.weights.answer", -1.0, "0 and more"),
    ("pretrain.texts", 0, "1 and more"),
    ("sft.shares.direct", -0.1, "0 and more"),
    ("sft.corrupted", 2.0, "0 to 1"),
    ("grpo.skip_scenes", -1, "0 and more (0 = none)"),
    ("sft.scenes", -1, "0 and more (0 = all)"),
    ("sft.self_map_scenes", -1, "0 and more"),
    ("sft.modality_weights.depth", -1.0, "0 and more"),
    ("sft.keep", 0, "1 and more"),
    ("sft.expected_minutes", -1.0, "0 and more"),
    ("sft.optim.micro_batches", 0, "1 and more"),
    ("grpo.rows", 0, "1 and more"),
    ("grpo.rl.updates", 0, "1 and more"),
    ("grpo.rl.map_weight", -1.0, "0 and more"),
    ("grpo.rl.advantage_eps", -1.0, "0 and more"),
    ("grpo.rl.code.clip_low", -0.5, "-1, and 0 and more"),
    ("grpo.rl.loss.sapo", (1.0, 0.0), "above 0"),
    ("grpo.rl.loss.top_entropy", 0.0, "above 0 to 1"),
    ("text_rows", -1, "0 and more"),
  ],
)
def test_a_number_out_of_its_range_is_refused_by_name(name, value, said):
  settings = config()
  put(settings, name, value)
  with pytest.raises(UserError) as error:
    checks.validate(settings)
  message = str(error.value)
  assert said in message and "\n" not in message
  assert name.rsplit(".", 1)[0] in message


@pytest.mark.parametrize("name", ranges.SHARED_OUT)
def test_shares_that_leave_nothing_are_refused(name):
  settings = config()
  section, key = name.split(".")
  for each in settings[section][key]:
    put(settings, f"{name}.{each}", 0.0)
  if key == "weights":  # maps are left
    ranges.check(settings)
    put(settings, f"{section}.map_weight", 0.0)
  with pytest.raises(UserError, match=f"config.{name} are all 0"):
    checks.validate(settings)


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("grpo.optim.learning_rate", 0.0),  # a control: nothing moves
    ("sft.optim.warmup_steps", 0),
    ("sft.optim.clip_norm", 0.0),
    ("sft.optim.beta1", 0.0),
    ("sft.optim.weight_decay", 0.1),
    ("grpo.rl.rewards.format", -0.2),
    ("grpo.rl.rewards.format", None),
    ("grpo.rl.rewards.length", 0.1),
    ("grpo.rl.code.clip_low", 0.0),
    ("evaluate.heldout_questions", 0),
    ("data.bad_samples", 1.0),
    ("sampling.maps", 0),
    ("seed", 2_000_000_000),
  ],
)
def test_what_can_work_is_not_refused(name, value):
  settings = config()
  put(settings, name, value)
  checks.validate(settings)


def test_a_batch_that_its_pieces_can_not_share_is_refused():
  settings = config()  # sft.batch is 4
  put(settings, "sft.optim.micro_batches", 3)
  with pytest.raises(UserError, match="micro_batches=3 can't divide"):
    checks.validate(settings)


@pytest.mark.parametrize(
  "setting",
  ["grpo.optim.learning_rate=nan", "grpo.rl.rewards.format=1e999"],
)
def test_nothing_is_made_for_a_number_that_is_none(setting, tmp_path, capsys):
  work = tmp_path / "work"
  assert main.main([SMOKE, f"--config.{setting}", f"--workdir={work}"]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: config.") and error.count("\n") == 1
  assert not work.exists()
