"""Every setting of every stage, with its default and its unit.

The other files of this folder choose a pipeline and change what differs. A
section holds the fields of the frozen dataclass that it is splatted into
where it is used, so a typo dies at start-up naming the field.

Variants: `tiny`, the default, is made for a laptop: some hours of teaching, and
reinforcement from the packaged model that these led to. `long` is the same and
trains every stage itself; `scratch` does so in three quarters of an hour;
`smoke` takes three minutes and learns next to nothing. The sizes `0p6b`, `7b`
and `7b_mot` are those of `sizes.py`, on a named slice as `7b@v6e:16x16`.
"""

import dataclasses

from ml_collections import ConfigDict

from configs import sizes, variants
from cooper_jax import plugins
from cooper_jax.errors import UserError, nearest

VARIANTS = ("tiny", "long", "scratch", "smoke")


def get_base(variant: str, pipeline: tuple[str, ...]) -> ConfigDict:
  """Builds the whole config, locked; raises UserError for a wrong variant."""
  named = variant.partition("@")[0]
  known = (*VARIANTS, *sizes.SIZES)
  if named not in known or (named in VARIANTS and named != variant):
    raise UserError(
      f'no variant "{variant}"; available: {", ".join(known)}, and sizes on a'
      f" slice, as in 7b@v6e:16x16{nearest(variant, known)}"
    )
  config = ConfigDict()
  config.variant = variant
  config.pipeline = pipeline  # stages, in order
  config.init_from = ""  # packaged model to begin with; "" trains every stage
  # The stage that the package stands for: sft, or pretrain, to teach SFT anew.
  config.init_as = "sft"
  config.seed = 0  # of parameters, batches and sampling
  config.precision = "auto"  # f32 | bf16 | auto: f32 on CPU, else bf16
  config.quick_compile = False  # compile sooner, run slower (CPU)
  config.text_rows = 0  # rows of text in the table; 0 = a row a token
  config.modalities = ("depth", "segmentation")  # maps the model can draw
  config.mesh = mesh()
  config.data = data()
  config.world = world()
  config.model = model()
  config.sampling = sampling()

  config.tokenizer = tokenizer()
  config.pretrain = pretrain()
  config.sft = sft()
  config.grpo = grpo()
  config.evaluate = evaluate()
  if named in sizes.SIZES:
    sizes.grow(config, variant)
  if variant == "smoke":
    variants.shrink(config)
  if variant in ("tiny", "long"):
    variants.stretch(config)
  if variant == "tiny":
    if pipeline[-1] != "evaluate":
      raise UserError(
        'variant "tiny" begins with the packaged model, whose stages are done;'
        " long trains them as it was trained, scratch in less, smoke in minutes"
      )
    config.init_from = "tiny"
    config.data.train_scenes = 4000  # that GRPO's questions are about
  config.lock()
  return config


def mesh() -> ConfigDict:
  """Devices along each axis; their product is the number of devices."""
  return ConfigDict(dict(data=-1, fsdp=1, sequence=1, tensor=1))


def data() -> ConfigDict:
  """What is read (DataConfig), and where the rendered world is kept."""
  config = ConfigDict()
  config.source = "world"  # files of data/sources, e.g. "world,jsonl"
  config.weights = ()  # share of each of several sources; () = equal
  config.image_size = 64  # pixels, both sides; divisible by the patch
  config.cache = ""  # folder of rendered scenes; "" is ~/.cache/cooper_jax
  config.in_memory = False  # hold rendered scenes decoded in memory
  config.train_scenes = 14_000
  config.validation_scenes = 256
  config.test_scenes = 320  # each with about 8 questions
  config.heldout_scenes = 320  # of colours and shapes never seen together
  config.workers = 0  # processes that render; 0 = one per core
  config.jsonl = ""  # source "jsonl": the file with your own questions
  config.bad_samples = 0.0  # share of unreadable samples to leave out
  return config


def world() -> ConfigDict:
  """The embedded world (WorldConfig); lengths in metres."""
  config = ConfigDict()
  config.seed = 0
  config.min_objects = 2
  config.max_objects = 6
  config.max_questions = 12  # per scene, at most one of each family
  return config


def model() -> ConfigDict:
  """The transformer (ModelConfig); text rows, codes and pixels are derived."""
  config = ConfigDict()
  config.d_model = 128
  config.layers = 4
  config.heads = 4
  config.kv_heads = 2
  config.head_dim = 32
  config.ffn = 384
  config.map_grid = 8  # codes along each side of a map
  config.max_maps = 2  # in one answer; sampling.maps may be fewer
  config.codes_per_step = "row"  # drawn at once: token | row | all
  config.qk_norm = True  # Qwen3
  config.qkv_bias = False  # Qwen2
  config.tied_head = False
  config.mixture_of_transformers = False  # own weights at code positions
  config.pointer = True  # naming a place is pointing at its image cell
  config.map_lookup = False  # a place that is named reads the codes drawn there
  config.aligned_queries = True  # a map slot sees its image cell
  config.code_digits = True  # codes share what is learned of their digits
  config.smear = True  # a text token sees its predecessor
  config.rope_theta = 10_000.0
  config.norm_eps = 1e-6
  # Computed again in the backward pass, for memory: none | attention | dots |
  # full, from least to most (models/config.py).
  config.remat = "none"
  config.attention = "auto"  # of the platform | xla | splash | cudnn
  # Sampling calls the layers one by one, which compiles as long as there are
  # layers and on a CPU copies less: on | off | auto (on a CPU).
  config.unroll = "auto"
  config.vision = vision()
  return config


def vision() -> ConfigDict:
  """The image encoder (VisionConfig)."""
  config = ConfigDict()
  config.patch = 8  # pixels
  config.width = 128
  config.layers = 1
  config.heads = 4
  config.ffn = 256
  config.stem = "conv"  # linear (imported weights) | conv (from scratch)
  return config


def optim(**changes) -> ConfigDict:
  """An optimiser (OptimConfig); rates are peaks, times are steps."""
  config = ConfigDict()
  config.name = "adamw"  # adamw | muon
  config.learning_rate = 2e-3  # muon: of the matrices
  config.adam_learning_rate = 2e-3  # muon only: of everything else
  config.schedule = "cosine"  # constant | cosine | linear
  config.warmup_steps = 20
  config.decay_start = 0.0  # fraction of the steps
  config.final_fraction = 0.05  # of the peak, at the end
  config.clip_norm = 1.0  # 0 = no limit
  config.weight_decay = 0.0
  config.beta1 = 0.9
  config.beta2 = 0.95
  config.epsilon = 1e-8
  config.momentum = 0.95  # muon only
  config.ema_decay = 0.0  # 0 = no average is kept
  config.micro_batches = 1  # pieces that a batch is taken in
  config.update(changes)
  return config


def stage(*, steps, batch, minutes, **optimiser) -> ConfigDict:
  """What every training stage has."""
  config = ConfigDict()
  config.steps = steps  # optimiser steps
  config.batch = batch  # images (grpo: prompts) a step
  config.log_every = 20  # steps
  config.save_every = 100  # steps
  # Steps between pictures in TensorBoard (what a tokenizer leaves of maps, what
  # the policy draws of validation scenes, a group of GRPO's); 0 = none.
  config.image_every = 500
  config.keep = 2  # checkpoints
  config.expected_minutes = minutes  # on two cores; only printed
  config.optim = optim(**optimiser)
  return config


def tokenizer() -> ConfigDict:
  """Stage 0, one tokenizer per modality (MapTokenizerConfig in `network`)."""
  config = stage(
    steps=1800,
    batch=16,
    minutes=6.0,
    name="muon",
    learning_rate=2e-2,
    adam_learning_rate=3e-3,
    decay_start=0.3,
    warmup_steps=40,
  )
  config.network = ConfigDict()
  config.network.width = 64
  config.network.blocks = 2
  config.network.fine_width = 32
  config.network.fine_blocks = 1
  config.network.levels = (8, 5, 5, 5)  # codes: their product
  config.network.quantizer = "fsq"  # fsq | vq_ema
  config.network.spread_weight = 0.02  # fsq: keeps all codes in use
  config.network.commitment_weight = 0.25  # vq_ema
  return config


def token_weights() -> ConfigDict:
  """Loss weight of a text token by what it says.

  A reading is a number or how two things stand to each other ("closer"), a
  name a colour or a shape.
  """
  return ConfigDict(
    dict(text=0.3, name=0.3, location=1.0, reading=1.0, answer=1.0)
  )


def modality_weights() -> ConfigDict:
  """How the codes' loss is shared; a modality that is not named has 1."""
  return ConfigDict(dict(depth=1.0, segmentation=1.5))


def pretrain() -> ConfigDict:
  """Stage 1: image and request -> map; grounding in the same rows."""
  config = stage(
    steps=1050,
    batch=12,
    minutes=16.0,
    name="muon",
    learning_rate=1e-2,
    adam_learning_rate=6e-3,
    schedule="linear",
    decay_start=0.5,
    warmup_steps=40,
  )
  config.bin = 88  # tokens of a bin, which holds whole branches
  config.text_bins = 2  # bins of a row beside one for each map
  config.texts = 140  # scored text tokens of a row, at most
  config.map_weight = 1.5  # of the codes' loss beside the text's
  config.modality_weights = modality_weights()
  config.code_noise = 0.05  # share of the codes read that are replaced
  # Chance that a text's places read a map (model.map_lookup).
  config.map_context = 0.0
  # Share of the depth maps among them that were changed.
  config.counterfactual = 0.0
  config.single_object = 0.05  # chance that one object alone is segmented
  config.extra_counting = 0  # more questions of how many there are, an image
  config.z_weight = 1e-4  # of logsumexp^2
  config.weights = token_weights()
  return config


def sft() -> ConfigDict:
  """Stage 2: question -> think, draw, think, answer."""
  config = stage(
    steps=270,
    batch=10,
    minutes=6.0,
    name="muon",
    learning_rate=5e-3,
    adam_learning_rate=1.5e-3,
    schedule="linear",
    decay_start=0.3,
  )
  config.bin = 224  # tokens of a bin, which holds whole branches
  config.bins = 2  # bins of a row
  config.texts = 192  # scored text tokens of a row, at most
  config.maps = 4  # maps of a row that are learned, at most
  config.map_weight = 1.0  # of the codes' loss beside the text's
  config.modality_weights = modality_weights()
  config.code_noise = 0.1  # share of the codes read that are replaced
  # Training scenes that the policy draws before it starts.
  config.self_map_scenes = 0
  config.self_map_share = 0.5  # of their maps, those read as it drew them
  # Share of the depth maps that were changed: only these have to be read, the
  # image does not show what they say.
  config.counterfactual = 0.0
  config.extra_counting = 0  # more questions of how many there are, an image
  config.corrupted = 0.1  # share of the traces that show a wrong map and say so
  # Lengths are told where this map was drawn or there is none; "" = always.
  config.lengths_need_map = ""
  config.z_weight = 1e-4  # of logsumexp^2
  config.weights = token_weights()
  config.shares = ConfigDict(  # of the questions, by the mode of their trace
    dict(
      direct=0.25, text=0.3, needed=0.25, depth=0.1, segmentation=0.0, both=0.1
    )
  )
  return config


def grpo() -> ConfigDict:
  """Stage 3: when to draw, what to draw, what to answer."""
  config = stage(
    steps=24,
    batch=8,
    minutes=4.5,
    learning_rate=5e-5,
    schedule="constant",
    warmup_steps=4,
  )
  config.log_every = 2
  config.image_every = 20
  config.bins = 2  # of a row of the update; one holds any rollout
  config.rows = 4  # taken at once in the update; more on an accelerator
  config.families = ()  # of questions, those reinforced; () = all
  config.rl = rl()
  return config


def sampling() -> ConfigDict:
  """Rollouts; lengths in tokens."""
  config = ConfigDict()
  config.temperature = 1.0
  config.code_temperature = 1.0
  config.text = 40  # tokens in one turn of text, at most
  config.maps = 2  # maps in one answer, at most
  config.prompt_buckets = (96, 160)  # lengths that prompts are padded to
  return config


def rl() -> ConfigDict:
  """Rewards, advantages and the policy loss."""
  config = ConfigDict()
  config.group_size = 8  # rollouts of one prompt
  config.advantage = "grpo"  # see rl/advantages.py: ADVANTAGES
  config.advantage_eps = 1e-4  # added to the std that rewards are divided by
  config.shuffle_rewards = False  # the control: deals them to other rollouts
  config.resample = 0  # rounds in which dead groups are replaced, at most
  config.pipeline = False  # sample a step ahead, from parameters one step old
  config.overlong_filter = False  # rollouts that were cut off teach nothing
  config.rewards = ("answer", "format", "exploration", "depth", "segmentation")
  # Of the rewards, in order. Map quality counts through the advantages of the
  # maps' own codes; in the sum it would pay for drawing as such.
  config.weights = (1.0, 0.2, 1.0, 0.0, 0.0)
  # Of every reward there is, the fields of its Config.
  config.settings = ConfigDict(
    {
      name: dataclasses.asdict(plugins.find("rewards", name).Config())
      for name in plugins.names("rewards")
    }
  )
  config.map_weight = 0.5  # of a map's own advantage beside the answer's; the
  # scale of both is that of grpo.rl.advantage
  config.text_only = False  # no gradient through codes
  config.updates = 1  # optimiser steps on one batch of rollouts
  config.loss = ConfigDict()  # LossConfig, of text and codes alike
  config.loss.kind = "dapo"  # see rl/losses.py: LOSSES
  config.loss.clip_low = 0.2
  config.loss.clip_high = 0.2  # cispo: the largest ratio itself
  config.loss.delta = 0.0  # largest free ratio; 0 = none
  config.loss.dual_clip = 0.0  # A < 0: loss of at most -dual_clip A; 0 = none
  config.loss.sapo = (1.0, 1.05)  # tau for A > 0, else
  config.loss.vespo = (2.0, 3.0, 3.0, 2.0)  # k, lambda for A >= 0, then A < 0
  config.loss.kl = "k3"  # k2 | k3 | k3_ratio
  config.loss.kl_weight = 0.0
  config.loss.correction = "none"  # for the sampler: rl/off_policy.py
  config.loss.correction_min = 0.5
  config.loss.correction_max = 2.0
  config.loss.off_policy_max = 0.0  # mean log gap of bad rollouts; 0 = any
  # Share of the tokens, by entropy, that count. Below 1 the update takes all
  # rollouts at once, whatever grpo.rows says: a quantile does not add up.
  config.loss.top_entropy = 1.0
  config.loss.max_length = 256  # tokens; dr_grpo divides by it
  config.code = ConfigDict()  # of the loss of codes; -1.0: as in `loss`
  config.code.weight = 0.5  # beside the text's 1
  config.code.clip_low = -1.0
  config.code.clip_high = -1.0
  config.code.kl_weight = -1.0
  return config


def evaluate() -> ConfigDict:
  """Test split: maps, answers per family and mode, report."""
  config = ConfigDict()
  config.questions = 1024  # of `data.test_scenes` images; whole batches
  config.heldout_questions = 512  # of `data.heldout_scenes` images; 0 = none
  config.batch = 256  # rollouts at once
  config.blind_scenes = 2000  # of the training split, for the blind baseline
  config.gallery = 60  # questions shown in the report
  config.expected_minutes = 8.0
  return config
