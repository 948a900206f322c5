"""Hugging Face's libraries on PyTorch, timed on the work of the benchmarks.

`generate` and `sft` by transformers, `grpo` by TRL. They are no dependencies:
they are imported here, and only where `--beside` asks for them. Fair: of the
same shape, its head tied to the embedding as ours is, on as many threads as
there are cores, no cache of keys and values where it trains. In bf16 it trains
as is usual there, under autocast, and samples from weights in bf16.
"""

import contextlib
import functools
import importlib
import sys
import tempfile
import time

from cooper_jax.bench.subjects import DECODERS, Work, summary
from cooper_jax.errors import UserError

_INSTALL = "pip install torch transformers trl"


def _imported(*names: str):
  """The modules, or one line that says how to install them."""
  try:
    return [importlib.import_module(name) for name in names]
  except ImportError as error:
    raise UserError(f"--beside needs {error.name}: {_INSTALL}") from error


def _model(shape: str, threads: int):
  """A Qwen2 of a shape, its weights random."""
  torch, transformers = _imported("torch", "transformers")
  torch.set_num_threads(threads)
  torch.manual_seed(0)
  layers, width, heads, kv_heads, ffn, vocabulary, _ = DECODERS[shape]
  config = transformers.Qwen2Config(
    vocab_size=vocabulary,
    hidden_size=width,
    intermediate_size=ffn,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    num_key_value_heads=kv_heads,
    tie_word_embeddings=True,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
  )
  model = transformers.Qwen2ForCausalLM(config)
  return (
    torch,
    model,
    f"torch {torch.__version__}, transformers"
    + (f" {transformers.__version__}"),
  )


def _autocast(torch, precision: str):
  """The context that training computes in."""
  return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def generate(asked, threads: int) -> Work:
  """`model.generate`, sampling at temperature 1, a prompt for every rollout."""
  torch, model, name = _model(asked.shape, threads)
  model.eval()
  if asked.precision == "bf16":
    model.to(torch.bfloat16)
  ids = torch.randint(8, 4096, (asked.prompts, asked.prompt_len))
  ids = ids.repeat_interleave(asked.group, dim=0)

  def call(_):
    with torch.inference_mode():
      model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_new_tokens=asked.new,
        max_new_tokens=asked.new,
      )

  return Work(call, lambda _: {"by": name})


def sft(asked, threads: int) -> Work:
  """One step of AdamW (fused) on full rows."""
  torch, model, name = _model(asked.shape, threads)
  model.config.use_cache = False
  ids = torch.randint(8, 4096, (asked.prompts, asked.prompt_len))
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

  def call(_):
    with _autocast(torch, asked.precision):
      loss = model(ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()

  return Work(call, lambda _: {"by": name})


def _words(vocabulary: int):
  """A tokenizer whose words are w0, w1 .."""
  tokenizers, transformers = _imported("tokenizers", "transformers")
  table = {f"w{i}": i for i in range(vocabulary)}
  made = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(table, unk_token="w2")
  )
  made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=made, unk_token="w2", pad_token="w0", eos_token="w1"
  )


def grpo(asked, threads: int):
  """Times steps of TRL's GRPO: rollouts, random rewards, an AdamW update."""
  _imported("torch", "transformers", "trl", "datasets")  # or says so now
  return functools.partial(_grpo, asked, threads)


def _grpo(asked, threads: int) -> dict:
  torch, model, name = _model(asked.shape, threads)
  transformers, trl, datasets = _imported("transformers", "trl", "datasets")
  prompts = torch.randint(8, 4096, (asked.prompts, asked.prompt_len)).tolist()
  rows = {"prompt": [" ".join(f"w{i}" for i in ids) for ids in prompts]}
  spans = []

  class Clock(transformers.TrainerCallback):
    """Wall and CPU seconds from a step's begin to its end."""

    def on_step_begin(self, *_, **__):
      self.began = time.perf_counter(), time.process_time()

    def on_step_end(self, args, state, control, **_):
      ended = time.perf_counter(), time.process_time()
      spans.append(tuple(b - a for a, b in zip(self.began, ended, strict=True)))
      late = sum(wall for wall, _ in spans) > asked.limit and len(spans) > 1
      control.should_training_stop |= late

  def reward(completion_ids, **_):
    shortest = min(map(len, completion_ids))
    if shortest != asked.new:
      raise UserError(
        f"TRL sampled {shortest} tokens of the {asked.new} asked for; give"
        f" --new={shortest}"
      )
    return torch.rand(len(completion_ids)).tolist()

  with tempfile.TemporaryDirectory() as folder:
    config = trl.GRPOConfig(
      output_dir=folder,
      max_steps=1 + asked.repeats,
      per_device_train_batch_size=asked.prompts * asked.group,
      num_generations=asked.group,
      max_completion_length=asked.new,
      generation_kwargs={"min_new_tokens": asked.new},
      temperature=1.0,
      top_k=0,
      top_p=1.0,
      beta=0.0,
      loss_type="dapo",
      gradient_checkpointing=False,  # its default, slower; ours keeps, too
      use_cpu=True,
      bf16=asked.precision == "bf16",
      report_to="none",
      save_strategy="no",
      logging_strategy="no",
      disable_tqdm=True,
      seed=0,
    )
    trainer = trl.GRPOTrainer(
      model=model,
      reward_funcs=reward,
      args=config,
      train_dataset=datasets.Dataset.from_dict(rows),
      processing_class=_words(DECODERS[asked.shape][5]),
      callbacks=[Clock()],
    )
    with contextlib.redirect_stdout(sys.stderr):  # it prints its metrics
      trainer.train()
  name = f"{name}, TRL {trl.__version__}"
  return {"by": name, "tokens": asked.prompts * asked.group * asked.new} | (
    summary(spans[0][0], spans[1:])
  )
