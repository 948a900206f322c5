"""Fields of a released model's config: read, known as harmless, or refused.

A field that is overlooked (a window, a layer without positions, another norm)
changes what a model computes and no name of a tensor: the result is a model
that loads and is wrong. So every family lists what it knows, and the rest is an
error.
"""

import sys

from cooper_jax.errors import UserError

# What these say doesn't change what a model computes: names, ids, training, and
# how text is drawn, as transformers writes them into every kind of config.
HARMLESS = frozenset(
  "architectures model_type _name_or_path name_or_path _model_name_or_path"
  " transformers_version transformers.js_config is_llama_config"
  " unsloth_fixed unsloth_version finetuning_task problem_type"
  " task_specific_params tokenizer_class prefix id2label label2id"
  " dtype torch_dtype torchscript use_bfloat16 tf_legacy_loss pruned_heads"
  " initializer_range attention_dropout pretraining_tp use_cache"
  " max_position_embeddings chunk_size_feed_forward is_decoder"
  " _attn_implementation attn_implementation output_attentions"
  " output_hidden_states output_scores return_dict return_dict_in_generate"
  " bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id"
  " forced_bos_token_id forced_eos_token_id decoder_start_token_id"
  " suppress_tokens begin_suppress_tokens bad_words_ids max_length min_length"
  " do_sample early_stopping num_beams num_beam_groups num_return_sequences"
  " temperature top_k top_p typical_p diversity_penalty repetition_penalty"
  " length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size"
  " exponential_decay_length_penalty remove_invalid_values"
  " tie_encoder_decoder _attn_implementation_autoset _flash_attn_2_enabled"
  " use_flash_attention use_flash_attn gradient_checkpointing"
  " neftune_noise_alpha max_sequence_length model_max_length bos_token"
  " eos_token pad_token output_past _num_labels tokenizer_name embd_pdrop"
  " resid_pdrop hidden_dropout".split()
)
# Fields that are refused unless they say that nothing is there, with what is.
MEANS = {
  "quantization_config": "the weights are quantised; take the folder that they"
  " were made from",
  "compression_config": "the weights are quantised; take the folder that they"
  " were made from",
  "auto_map": "the model has code of its own, which is never run",
  "no_rope_layers": "layers without positions (NoPE) are not supported",
  "no_rope_layer_interval": "layers without positions (NoPE) are not supported",
  "num_experts": "mixtures of experts are not supported",
  "num_local_experts": "mixtures of experts are not supported",
  "n_routed_experts": "mixtures of experts are not supported",
  "moe_intermediate_size": "mixtures of experts are not supported",
  "linear_num_key_heads": "linear attention is not supported",
  "full_attention_interval": "linear attention is not supported",
  "attn_logit_softcapping": "Gemma's soft caps are not supported",
  "final_logit_softcapping": "Gemma's soft caps are not supported",
  "query_pre_attn_scalar": "Gemma's scale of queries is not supported",
}
REQUIRED = object()
VALUE_SHOWN = 100  # characters of a value in an error


class ConfigFields:
  """Reads a config field by field; `finish` refuses what nobody read.

  config: the JSON object; where: how errors name it.
  """

  def __init__(self, config: dict, where: str):
    self.config, self.where = config, where
    self.known = set(HARMLESS)

  def has(self, name: str) -> bool:
    """Whether a field is there and not null."""
    return self.config.get(name) is not None

  def get(self, name: str, default=REQUIRED):
    """The value of a field; UserError where it must be there and is not."""
    self.known.add(name)
    value = self.config.get(name)
    if value is None and default is REQUIRED:
      raise UserError(f"{self.where} has no {name}; get the folder whole")
    return default if value is None else value

  def count(self, name: str, default=REQUIRED) -> int:
    """A whole number from 1 on."""
    value = self.get(name, default)
    if type(value) is not int or value < 1:
      self.refuse(name, value, "allowed: whole numbers from 1 on")
    return value

  def real(self, name: str, default=REQUIRED) -> float:
    """A finite number above 0."""
    value = self.get(name, default)
    # A whole number may be too large for a float.
    if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
      self.refuse(name, value, "allowed: finite numbers above 0")
    return float(value)

  def flag(self, name: str, default=REQUIRED) -> bool:
    """True or false."""
    value = self.get(name, default)
    if type(value) is not bool:
      self.refuse(name, value, "allowed: true, false")
    return value

  def only(self, name: str, allowed, why: str) -> None:
    """Refuses every value but one; the field may be absent."""
    value = self.get(name, allowed)
    if value != allowed:
      self.refuse(name, value, f"{why}; allowed: {allowed}")

  def refuse(self, name: str, value, why: str) -> None:
    """Raises UserError of a field's value, of a long one its beginning."""
    said = repr(value)
    if len(said) > VALUE_SHOWN:
      said = f"{said[:VALUE_SHOWN]} ..."
    raise UserError(f"{self.where}: {name} is {said}; {why}")

  def finish(self) -> None:
    """Raises UserError with the first field that nobody knows."""
    for name, value in self.config.items():
      off = value is None or (name in MEANS and not value)
      if off or name in self.known:
        continue
      why = MEANS.get(
        name,
        "this field is not known here, and may change what the model computes:"
        " the folder is refused",
      )
      self.refuse(name, value, why)


def rope(
  fields: ConfigFields,
  *,
  theta=REQUIRED,
  axes: int = 0,
  interleaved: bool = False,
) -> dict:
  """`rope_theta` and, of Llama 3, `rope_llama3` of `ModelConfig`.

  Reads the spellings of transformers 4 (`rope_theta`, `rope_scaling`) and 5
  (`rope_parameters`). theta: the class's own where a config has none. axes: how
  many frequencies three turning axes share, for `rope_sections`; 0 = there is
  one axis. interleaved: how the class lays them out, whatever a config says.
  """
  kinds = ("default", "llama3", *(("mrope",) if axes else ()))
  own = ConfigFields({}, fields.where)
  for name in ("rope_scaling", "rope_parameters"):
    said = fields.get(name, {})
    if not isinstance(said, dict):
      fields.refuse(name, said, "allowed: an object")
    differing = [k for k in said if own.config.get(k, said[k]) != said[k]]
    if differing:
      fields.refuse(name, said, f"rope_scaling has another {differing[0]}")
    own.config |= said
    own.where = f"{fields.where}: {name}" if said else own.where
  top = fields.get("rope_theta", None)
  if top is not None and own.config.setdefault("rope_theta", top) != top:
    fields.refuse(
      "rope_theta", top, f"but {own.where} has {own.config['rope_theta']!r}"
    )
  older = own.get("type", "default")
  kind = own.get("rope_type", older)
  for each in (kind, older):
    if each not in kinds:
      own.refuse("rope_type", each, f"allowed: {', '.join(kinds)}")
  if "llama3" in (kind, older) and own.get("type", kind) != kind:
    own.refuse("rope_type", kind, f"but its type is {older!r}")
  found = {}
  if axes:
    found["rope_sections"] = _sections(own, axes, interleaved)
  own.only("partial_rotary_factor", 1.0, "partial rotary is not supported")
  own.only("attention_factor", 1.0, "scaled attention is not supported")
  found["rope_theta"] = own.real("rope_theta", theta)
  if kind == "llama3":
    found["rope_llama3"] = (
      own.real("factor"),
      own.real("low_freq_factor"),
      own.real("high_freq_factor"),
      own.real("original_max_position_embeddings"),
    )
  else:
    own.only("factor", 1.0, f"rope_type {kind} has none")
    own.known.add("original_max_position_embeddings")  # nothing is stretched
  own.finish()
  return found


def _sections(own: ConfigFields, half: int, interleaved: bool) -> tuple:
  """Frequencies of time, row and column, of half a head's."""
  own.only("mrope_interleaved", interleaved, "its class has no other")
  found = own.get("mrope_section", [24, 20, 20] if interleaved else REQUIRED)
  good = isinstance(found, list) and len(found) == 3
  if not good or any(type(n) is not int or n < 0 for n in found):
    own.refuse("mrope_section", found, "allowed: three whole numbers")
  if sum(found) != half:
    own.refuse("mrope_section", found, f"half a head has {half} channels")
  return tuple(found)
