"""What each variant changes of the settings that `base.py` lists.

The default, `tiny`, is some minutes of GRPO from the packaged model; `long`
trains that model.
"""

from ml_collections import ConfigDict


def tiny(config: ConfigDict) -> None:
  """The packaged model: told the lens, trained to derive."""
  # Without the lens no height or width follows from what is seen.
  config.data.tell_lens = True
  config.world.derive = ("viewpoint", "height", "width", "occlusion")
  # Their steps take more text, and to divide by a lens takes many examples.
  config.pretrain.update(text_bins=3, texts=210, extra_sizes=2)
  config.sft.update(steps=1500, extra_sizes=1, expected_minutes=36.0)


def long(config: ConfigDict) -> None:
  """The default's recipe with every stage trained here: some 2.5 hours."""
  tiny(config)
  config.init_from = ""
  # What the packaged model was trained on. GRPO alone asks about far fewer, and
  # rendering takes its time.
  config.data.train_scenes = 50_000


def scratch(config: ConfigDict) -> None:
  """Every stage from nothing in three quarters of an hour, on two cores.

  The recipe of this length; the sizes of `sizes.py` begin from it, too.
  """
  config.init_from = ""
  config.data.train_scenes = 14_000  # about as many as the steps below show
  for name, steps, warmup, minutes in (
    ("tokenizer", 1800, 40, 6.0),
    ("pretrain", 1050, 40, 16.0),
    ("sft", 270, 20, 6.0),
  ):
    config[name].update(steps=steps, save_every=100, expected_minutes=minutes)
    config[name].optim.warmup_steps = warmup
  # So few steps are too few to learn to read a map: its own is worth -0.1 to
  # +1.2 points more than another image's, whatever was tried (recipe.md). So
  # there is no lookup, no map given to a text, no changed one, none of its own.
  config.model.map_lookup = False
  config.pretrain.update(map_context=0.0, counterfactual=0.0)
  config.sft.update(self_map_scenes=0, counterfactual=0.0)
  # So lengths may be told without a map, and a quarter of the traces shows the
  # maps that the question needs instead of leaving that to GRPO.
  config.sft.lengths_need_map = ""
  config.sft.shares.update(
    direct=0.25, text=0.3, needed=0.25, depth=0.1, segmentation=0.0, both=0.1
  )
  config.sft.corrupted = 0.1  # the only maps here that the image contradicts
  # More counting and the loss on names came with the long recipe, too.
  config.pretrain.extra_counting = config.sft.extra_counting = 0
  config.pretrain.weights.name = config.sft.weights.name = 0.3
  # A few minutes of GRPO as in its paper: advantages are divided by their std,
  # and a map's own with them, so that its weight is of the same order as 1.
  config.grpo.update(steps=24, batch=8, expected_minutes=4.5)
  config.grpo.optim.update(learning_rate=5e-5, schedule="constant")
  config.grpo.rl.update(advantage="grpo", map_weight=0.5)


def smoke(config: ConfigDict) -> None:
  """The whole chain in three minutes, for tests; nothing much is learned."""
  # The recipe that is over soonest, and less of it.
  scratch(config)
  shrink(config)


def shrink(config: ConfigDict) -> None:
  """Makes any recipe as small as `smoke`."""
  config.quick_compile = True  # a fifth less for the whole chain
  # Rendering, too, is a matter of seconds.
  config.data.update(
    train_scenes=192, validation_scenes=16, test_scenes=24, heldout_scenes=24
  )
  # A quarter of the parameters, and as many layers as show that there are some.
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
  # Enough questions for every table and figure of the report.
  config.evaluate.update(
    questions=48, heldout_questions=48, batch=48, expected_minutes=0.5
  )


CHANGES = {"tiny": tiny, "long": long, "scratch": scratch, "smoke": smoke}
