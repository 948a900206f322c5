"""The same work by Hugging Face transformers on PyTorch, in the same process.

Torch and transformers are no dependencies: they are imported here, and only
where `--beside` asks for them.
"""

from cooper_jax.bench.subjects import SHAPES, timed_calls
from cooper_jax.errors import UserError

INSTALL = "pip install torch transformers"


def _model(shape: str, threads: int):
  """A Qwen2 of a shape, its weights random."""
  try:
    import torch
    import transformers
  except ImportError as error:
    raise UserError(f"--beside needs {error.name}: {INSTALL}") from error
  torch.set_num_threads(threads)
  torch.manual_seed(0)
  layers, width, heads, kv_heads, ffn, vocabulary, _ = SHAPES[shape]
  config = transformers.Qwen2Config(
    vocab_size=vocabulary,
    hidden_size=width,
    intermediate_size=ffn,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    num_key_value_heads=kv_heads,
    tie_word_embeddings=False,
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


def generate(asked, threads: int) -> dict:
  """`model.generate`, sampling at temperature 1, a prompt for every rollout."""
  torch, model, name = _model(asked.shape, threads)
  model.eval()
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

  return {"by": name} | timed_calls(call, asked.repeats)


def sft(asked, threads: int) -> dict:
  """One step of AdamW (fused) on full rows."""
  torch, model, name = _model(asked.shape, threads)
  ids = torch.randint(8, 4096, (asked.prompts, asked.prompt_len))
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

  def call(_):
    model(ids, labels=ids).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()

  return {"by": name} | timed_calls(call, asked.repeats)
