"""Rows of the paper's table: each changes a config into its own pipeline.

`configs/paper.py` names them, and says what is compared.
"""

from configs import base
from cooper_jax.world.questions import families

WITHOUT_METRES = ("left_right", "above_below", "count", "exists")
METRIC = (*families.measuring("distance"), *families.measuring("size"))
# Families whose thinking is not shown. Of each the form of its answer (one of
# two things, yes or no, a length) ends a trace that is shown, and what it has
# to read is read in one: distance in those of closer and object_distance.
UNTRACED = (
  "distance", "front_behind", "left_right", "taller", "width", "gap", "exists",
  "reach",
)  # fmt: skip
TRACED = tuple(name for name in families.names() if name not in UNTRACED)
TRAINED = ("tokenizer", "pretrain", "sft")
REPHRASED = "rephrased"  # benchmark of test scenes in words that SFT never saw
LABELLED = 3000  # scenes that SFT asks about in claim 1


def _metric(config) -> None:
  """Claim 1: a base that knows no metres, then metres from few scenes."""
  config.pipeline = (*TRAINED, "evaluate")
  config.data.train_scenes = 4000
  config.pretrain.update(
    steps=600,
    batch=10,
    text_bins=1,
    texts=80,
    extra_counting=1,
    single_object=0.0,  # it would show a map of the image itself
    families=WITHOUT_METRES,
    without_lengths=True,
    expected_minutes=5.5,
  )
  config.sft.update(
    steps=1000,
    batch=10,
    bin=112,
    maps=2,
    code_noise=0.0,
    corrupted=0.0,
    families=METRIC,
    scenes=LABELLED,
    lengths_need_map="depth",
    expected_minutes=6.0,
  )
  _share(config, text=1.0)
  config.evaluate.expected_minutes = 3.0


def _share(config, **shares) -> None:
  none = dict.fromkeys(config.sft.shares, 0.0)
  config.sft.shares.update(none | shares)


def amg(config) -> None:
  """Maps of each image, and text without metres."""
  _metric(config)


def base_row(config) -> None:
  """The same rows and text; maps are not learned."""
  _metric(config)
  config.pretrain.map_weight = 0.0


def amg_exchanged(config) -> None:
  """Control: the same loss and compute on maps of another image."""
  _metric(config)
  config.pretrain.exchanged_maps = True


def amg_depth(config) -> None:
  """Depth alone, with the weight that it has beside segmentation."""
  _alone(config, "segmentation")


def amg_segmentation(config) -> None:
  """Segmentation alone, with the weight that it has beside depth."""
  _alone(config, "depth")


def _alone(config, other: str) -> None:
  _metric(config)
  weights = config.pretrain.modality_weights
  share = 1 - weights[other] / sum(weights.values())
  config.pretrain.map_weight *= share
  weights[other] = 0.0


def pe(config) -> None:
  """Draws both maps before each answer, and reasons over them."""
  _metric(config)
  config.sft.update(bin=224, maps=4, expected_minutes=11.0)
  _share(config, both=1.0)


def amg_after(config) -> None:
  """The paper's own order: few labels, then maps alone, and then it is asked.

  It begins with what `base-1000` made (`STARTS`) and draws the maps of all
  scenes; of words the openings of maps alone are in the loss, so that nothing
  is labelled further.
  """
  base_row(config)
  config.sft.update(bin=224, maps=4, scenes=0, steps=600, expected_minutes=7.0)
  config.sft.weights.update(dict.fromkeys(config.sft.weights, 0.0))
  _slower(config)
  _share(config, both=0.99, text=0.01)  # a mode without a share is not asked


def _slower(config) -> None:
  """The rates of an SFT that goes on and does not begin."""
  config.sft.optim.learning_rate *= 0.2
  config.sft.optim.adam_learning_rate *= 0.2


def re_row(config) -> None:
  """Reinforcement of text alone, on the base without maps."""
  base_row(config)
  _reinforce(config)
  config.grpo.families = METRIC  # those of SFT
  config.grpo.rl.text_only = True
  config.grpo.rl.rewards.exploration = 0.0


def sft(config) -> None:
  """Claim 2: interleaved traces for eight families, answers for the others.

  The recipe of `scratch`, with a longer SFT. Pretraining asks the eight alone:
  its questions show their traces, too.
  """
  config.pipeline = (*TRAINED, "evaluate")
  config.pretrain.families = TRACED
  config.sft.update(steps=600, direct_families=UNTRACED, expected_minutes=13.0)


def sft_text(config) -> None:
  """The same with traces in text alone."""
  sft(config)
  _share(config, direct=0.25, text=0.75)


def _reinforce(config) -> None:
  config.pipeline = (*TRAINED, "grpo", "evaluate")
  usual = base.GRPOSettings()
  # The default run's, for what `scratch` takes is too short for a claim.
  config.grpo.update(steps=150, batch=usual.batch, expected_minutes=18.0)
  config.grpo.optim.update(
    learning_rate=usual.optim.learning_rate, schedule=usual.optim.schedule
  )
  config.grpo.rl.update(advantage=usual.rl.advantage, map_weight=0.0)


def cooper(config) -> None:
  """GRPO with answer, format and exploration, as the paper's CPR."""
  sft(config)
  _reinforce(config)


def cooper_no_format(config) -> None:
  """CPR without the format reward."""
  cooper(config)
  config.grpo.rl.rewards.format = 0.0


def cooper_no_exploration(config) -> None:
  """CPR without the exploration reward."""
  cooper(config)
  config.grpo.rl.rewards.exploration = 0.0


def cooper_answer(config) -> None:
  """The answer's reward alone."""
  cooper(config)
  config.grpo.rl.rewards.update(format=0.0, exploration=0.0)


def cooper_maps(config) -> None:
  """CPR, and each map's own reward on its codes."""
  cooper(config)
  config.grpo.rl.map_weight = base.GRPOSettings().rl.map_weight


def shuffled(config) -> None:
  """Control: rewards go to other rollouts."""
  cooper(config)
  config.grpo.rl.shuffle_rewards = True


def sft_more(config) -> None:
  """Control: as many steps of cross-entropy on answers as GRPO has.

  It begins with what `sft` made (`STARTS`), and asks as many images a step of
  the scenes and families that GRPO asks about.
  """
  cooper(config)
  _more(config)


def _more(config) -> None:
  steps, batch = config.grpo.steps, config.grpo.batch
  config.pipeline = (*TRAINED, "evaluate")
  config.sft.update(steps=steps, batch=batch, expected_minutes=4.0)
  config.sft.direct_families = ()
  _slower(config)
  _share(config, direct=1.0)


def elicit_sft(config) -> None:
  """From the packaged model, which can think about every family.

  Eight families are shown with traces and eight answered at once, as in `sft`.
  """
  config.init_as = "pretrain" if config.init_from else config.init_as
  config.pipeline = (*TRAINED, "evaluate")
  config.sft.update(steps=500, direct_families=UNTRACED, expected_minutes=12.0)


def elicit(config) -> None:
  """GRPO from there, as in `cooper`."""
  elicit_sft(config)
  _reinforce(config)


def elicit_longer(config) -> None:
  """Twice the steps: after 150 the reward still rises."""
  elicit(config)
  config.grpo.update(steps=300, expected_minutes=36.0)


def elicit_shuffled(config) -> None:
  """Control: rewards go to other rollouts."""
  elicit(config)
  config.grpo.rl.shuffle_rewards = True


def elicit_answer(config) -> None:
  """The answer's reward alone: nothing is paid for thinking as such."""
  elicit(config)
  config.grpo.rl.rewards.update(format=0.0, exploration=0.0)


def elicit_more(config) -> None:
  """Control: cross-entropy on answers, as in `sft_more`."""
  elicit(config)
  _more(config)


def words(config) -> None:
  """GRPO in words that SFT never saw, from the packaged model.

  Asked are test scenes in these words (`BENCHMARKS`), and in the usual ones.
  """
  _in_new_words(config, "grpo")
  config.grpo.update(steps=150, expected_minutes=14.0)


def words_longer(config) -> None:
  """Twice the steps."""
  words(config)
  config.grpo.update(steps=300, expected_minutes=28.0)


def words_shuffled(config) -> None:
  """Control: rewards go to other rollouts."""
  words(config)
  config.grpo.rl.shuffle_rewards = True


def words_more(config) -> None:
  """Control: as many steps of cross-entropy on answers as `words` has."""
  words(config)
  steps, batch = config.grpo.steps, config.grpo.batch
  config.grpo.phrasings = "usual"
  _in_new_words(config, "sft")
  config.init_as = "pretrain" if config.init_from else config.init_as
  config.pipeline = (*TRAINED, "evaluate")
  config.sft.update(
    steps=steps,
    batch=batch,
    extra_counting=0,  # questions that are made up are in the usual words
    extra_sizes=0,
    self_map_scenes=0,  # nor are maps read
    counterfactual=0.0,
    expected_minutes=4.0,
  )
  _slower(config)
  _share(config, direct=1.0)


def _in_new_words(config, stage: str) -> None:
  config.pipeline = (*TRAINED, "grpo", "evaluate")
  config[stage].phrasings = "heldout"
  config.evaluate.update(
    benchmarks=("embedded", REPHRASED),
    heldout_questions=0,  # they are no new words then
    expected_minutes=10.0,
  )


def priced(config) -> None:
  """GRPO of the packaged model where each map costs 5 points of an answer."""
  config.pipeline = (*TRAINED, "grpo", "evaluate")
  config.grpo.update(steps=150, expected_minutes=14.0)
  config.grpo.rl.rewards.map_price = 0.05


def unpriced(config) -> None:
  """The same where maps cost nothing."""
  priced(config)
  config.grpo.rl.rewards.map_price = None


def label(config, scenes: int, steps: int) -> None:
  """So many labelled scenes, and steps of SFT."""
  config.sft.expected_minutes *= steps / config.sft.steps
  config.sft.update(scenes=scenes, steps=steps)
  if scenes > config.data.train_scenes:
    # One pretraining for all larger points; its first scenes are the others'.
    config.data.train_scenes = max(30_000, scenes)
