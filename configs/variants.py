"""What a variant changes of the settings in `base.py`."""

from ml_collections import ConfigDict


def stretch(config: ConfigDict) -> None:
  """The same model, taught for some hours, and taught to read its maps."""
  config.data.train_scenes = 50_000
  for name, steps, minutes in (
    ("tokenizer", 6000, 18.0),
    ("pretrain", 6000, 95.0),
    ("sft", 500, 12.0),
  ):
    config[name].update(steps=steps, save_every=500, expected_minutes=minutes)
    config[name].optim.warmup_steps = 100
  config.model.map_lookup = True
  config.pretrain.update(map_context=0.5, counterfactual=0.5, extra_counting=3)
  config.pretrain.weights.name = config.sft.weights.name = 1.0
  config.sft.update(
    self_map_scenes=4000, counterfactual=0.5, corrupted=0.03, extra_counting=2
  )
  # All ways of answering are shown for all questions alike, and what is
  # measured is read off a map: when drawing pays is for GRPO to find.
  config.sft.lengths_need_map = "depth"
  config.sft.shares.update(
    direct=0.1, text=0.3, needed=0.0, depth=0.4, segmentation=0.08, both=0.12
  )
  config.grpo.update(steps=84, batch=16, expected_minutes=10.0)
  config.grpo.optim.update(learning_rate=1e-4, schedule="linear")
  # Divided by its std, a group that differs in its maps alone would count as
  # much as one that differs in its answers.
  config.grpo.rl.advantage = "mean_only"
  # Maps of one image differ by .02 to .04 in quality, and are not divided by
  # that either: their own reward needs this weight to hold them (recipe.md).
  config.grpo.rl.map_weight = 20.0


def shrink(config: ConfigDict) -> None:
  """Makes the chain a matter of minutes; nothing much is learnt."""
  config.quick_compile = True  # a fifth less for the whole chain
  config.data.train_scenes = 192
  config.data.validation_scenes = 16
  config.data.test_scenes = 24
  config.data.heldout_scenes = 24
  config.model.update(d_model=64, layers=2, head_dim=16, ffn=128)
  config.model.vision.update(width=64, ffn=128)
  config.tokenizer.network.update(width=32, fine_width=16, blocks=1)
  # One bucket: compiling takes longer than the steps.
  config.sampling.update(text=24, maps=1, prompt_buckets=(160,))
  config.grpo.rl.group_size = 4
  for name, steps, batch in (
    ("tokenizer", 30, 8),
    ("pretrain", 12, 4),
    ("sft", 8, 4),
    ("grpo", 4, 4),
  ):
    part = config[name]
    part.update(steps=steps, batch=batch, log_every=4, save_every=steps)
    # Drawing them would be compiled for a policy that draws nothing yet.
    part.image_every = 0 if name in ("pretrain", "sft") else 20
    part.expected_minutes = 0.4
    part.optim.warmup_steps = 2
  config.evaluate.update(
    questions=48, heldout_questions=48, batch=48, expected_minutes=0.5
  )
