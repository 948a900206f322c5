"""Fields of a config that would change a model are refused by name."""

import dataclasses

import pytest

from cooper_jax.errors import UserError
from cooper_jax.models.config import ModelConfig
from cooper_jax.weights import families, folder, qwen, qwen_vl
from tests.weights import released, released_seeing


def sizes(name, **more):
  """The sizes of a case whose config was changed."""
  config = released.CASES[name][0] | more
  return families.find(config, "config.json").config(config, "config.json")


# Case, what is changed, and what is said of it.
REFUSED = [
  ("mistral", dict(sliding_window=6), "sliding_window is 6"),
  *(
    ("mistral", dict(sliding_window=6) | off, "sliding_window is 6")
    for off in (
      released.FULL,
      dict(use_sliding_window=False),
      dict(max_window_layers=2),
    )
  ),
  ("qwen2", dict(use_sliding_window=True), "sliding_window is 4096"),
  (
    "qwen2_older",
    dict(use_sliding_window=True, max_window_layers=1),
    "sliding_window is 4096",
  ),
  (
    "qwen2",
    dict(layer_types=["full_attention", "sliding_attention"]),
    "layer_types is",
  ),
  ("llama", dict(sliding_window=6), "sliding_window is 6"),
  ("llama", dict(no_rope_layers=[1, 0]), "(NoPE)"),
  ("llama", dict(partial_rotary_factor=0.5), "partial rotary"),
  (
    "llama",
    dict(rope_parameters=released.ROPE | {"partial_rotary_factor": 0.25}),
    "partial rotary",
  ),
  ("llama", dict(attention_bias=True), "bias of attention's output"),
  ("qwen3", dict(attention_bias=True), "bias of attention's output"),
  ("llama", dict(mlp_bias=True), "bias in the MLP"),
  ("llama", dict(num_local_experts=8), "mixtures of experts"),
  ("qwen3", dict(num_experts=8), "mixtures of experts"),
  ("llama", dict(final_logit_softcapping=30.0), "Gemma's"),
  ("llama", dict(hidden_act="gelu"), "hidden_act is 'gelu'"),
  (
    "qwen3",
    dict(quantization_config={"quant_method": "gptq"}),
    "the weights are quantised",
  ),
  ("llama", dict(auto_map={"AutoModel": "x.Y"}), "code of its own"),
  ("llama", dict(surprise=False), "surprise is False; this field is not known"),
  ("llama", dict(vision_config={"depth": 1}), "vision_config"),
  *(
    ("llama", dict(rope_parameters=released.ROPE | {"rope_type": kind}), kind)
    for kind in ("linear", "dynamic", "yarn", "longrope", "mrope")
  ),
  (
    "qwen2_older",
    dict(rope_scaling={"type": "yarn", "factor": 4.0}),
    "rope_type is 'yarn'",
  ),
  (
    "llama",
    dict(rope_parameters=released.ROPE | {"factor": 2.0}),
    "factor is 2.0",
  ),
  (
    "llama3",
    dict(rope_parameters=released.LLAMA3 | {"attention_factor": 1.5}),
    "attention_factor is 1.5",
  ),
  ("llama", dict(is_causal=False), "is_causal is False"),
  ("llama", dict(rms_norm_eps=10**400), "allowed: finite numbers above 0"),
  ("llama", dict(rope_theta=3.0), "rope_theta is 3.0; but"),
  ("qwen2_older", dict(rope_theta=None), "has no rope_theta"),
  ("llama", dict(num_hidden_layers=10**9), "allowed: 1 to 10000"),
  ("llama", dict(hidden_size=True), "allowed: whole numbers from 1 on"),
  ("llama", dict(rms_norm_eps=float("nan")), "allowed: finite numbers above 0"),
  ("llama", dict(vocab_size=None), "has no vocab_size"),
  ("llama", dict(tie_word_embeddings="yes"), "allowed: true, false"),
  ("llama", dict(model_type="qwen3_next"), "it has linear attention"),
  ("llama", dict(model_type="gemma3_text"), "norms of Gemma's"),
  ("llama", dict(model_type="qwen3_moe"), "mixture of experts"),
  ("llama", dict(model_type="smollm3"), "(NoPE)"),
  ("llama", dict(model_type=None), "model_type is None"),
  (
    "llama",
    dict(model_type=["llama"]),
    "allowed: bagel, emu3_vqgan, emu3, janus_vqgan",
  ),
  (
    "qwen3_vl",
    dict(text_config={"model_type": "qwen3_vl_moe_text"}),
    "another text model",
  ),
]


@pytest.mark.parametrize(("name", "change", "said"), REFUSED)
def test_what_is_not_supported_is_refused_by_name(name, change, said):
  with pytest.raises(UserError) as caught:
    sizes(name, **change)
  assert said in str(caught.value) and "\n" not in str(caught.value)


def test_of_a_long_value_the_beginning_is_shown():
  names = [f"model.layers.{i}.mlp.down_proj" for i in range(200)]
  with pytest.raises(UserError, match="made from") as caught:
    sizes("llama", quantization_config={"modules_to_not_convert": names})
  assert len(str(caught.value)) < 300
  config = released.CASES["qwen2"][0] | dict(num_hidden_layers=200)
  config |= dict(layer_types=["sliding_attention"] * 200)
  with pytest.raises(UserError, match="allowed: 200 times full") as caught:
    families.find(config, "c").config(config, "c")
  assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
  ("said", "why"),
  [
    ({"image_mean": "123"}, "image_mean is '123'; allowed: three numbers"),
    ({"image_mean": [True, 0, 0]}, r"image_mean is \[True, 0, 0\]; allowed"),
    ({"image_mean": [0, 0]}, r"image_mean is \[0, 0\]; allowed"),
    ({"image_std": [1, 1, 10**400]}, "it has a number of 401 digits"),
    ({"image_std": [1, 1, float("nan")]}, "image_std is .* three numbers"),
    ({"do_normalize": False}, "do_normalize is False; .* otherwise here"),
    ({"do_rescale": False}, "do_rescale is False; .* otherwise here"),
    ({"rescale_factor": 1}, "rescale_factor is 1; .* otherwise here"),
    (None, "preprocessor_config.json is a symbolic link to itself"),
    ({"patch_size": 5}, "patch_size is 5; config.json has 4; one of them"),
  ],
)
def test_a_processor_that_is_another_is_refused(said, why, tmp_path):
  half = dict(mean=qwen_vl.HALF, deviation=qwen_vl.HALF)
  sizes = {"vision": dict(patch=4, merge=2, frames=2) | half}
  key = f"model.visual.{qwen_vl.FIRST_OF_TOWER}"
  source = folder.WeightsFolder(tmp_path, {}, {key: None}, {})
  path = tmp_path / qwen_vl.PROCESSOR
  whole = dict(image_mean=[0.5] * 3, image_std=None, rescale_factor=1 / 255)
  whole |= dict(do_normalize=True, do_rescale=True, patch_size=4)
  released.write_json(path, whole)
  assert qwen_vl.settle(sizes, source, "config.json") == []
  assert sizes["vision"].items() >= half.items()
  # As transformers 5 writes it.
  own = {"image_processor": whole | dict(image_mean=[0.1, 0.2, 0.3])}
  released.write_json(tmp_path / "processor_config.json", own)
  assert qwen_vl.settle(sizes, source, "config.json") == []
  assert sizes["vision"]["mean"] == (0.1, 0.2, 0.3)
  path.unlink()
  if said:
    released.write_json(path, whole | said)
  else:
    path.symlink_to(path.name)
  with pytest.raises(UserError, match=why):
    qwen_vl.settle(sizes, source, "config.json")


def test_a_config_of_mistral_without_a_window_has_one():
  config = dict(released.CASES["mistral"][0])
  del config["sliding_window"]
  for off in ({}, released.FULL, dict(use_sliding_window=False)):
    with pytest.raises(UserError, match="sliding_window is 4096"):
      families.find(config, "c").config(config | off, "c")


def test_a_window_of_qwen_that_is_used_and_not_said_is_the_class_s():
  config = dict(released.CASES["qwen2"][0])
  del config["sliding_window"]
  found = families.find(config, "c")
  assert found.config(config, "c") == sizes("qwen2")
  with pytest.raises(UserError, match=r"4096; .*, where none is said"):
    found.config(config | dict(use_sliding_window=True), "c")


def test_a_part_of_the_text_half_is_refused_as_well():
  config = released.CASES["qwen3_vl"][0]
  own = config["text_config"] | {"quantization_config": {"bits": 4}}
  with pytest.raises(UserError, match="text_config: quantization_config"):
    sizes("qwen3_vl", text_config=own)


@pytest.mark.parametrize(
  ("name", "change"),
  [
    ("qwen2", dict(use_sliding_window=True, max_window_layers=2)),
    ("mistral", dict(released.FULL, max_window_layers=2)),
    ("llama", dict(pad_token="<pad>", neftune_noise_alpha=5, is_causal=True)),
    (
      "llama",
      dict(
        rope_parameters=released.ROPE
        | dict(factor=1.0, original_max_position_embeddings=64)
      ),
    ),
    (
      "llama3",
      dict(rope_parameters=released.LLAMA3 | {"attention_factor": 1.0}),
    ),
    ("llama", dict(quantization_config=None, num_experts=0, novelty=None)),
    ("llama", dict(rope_parameters=None, rope_theta=500.0, rope_scaling=None)),
    ("llama", dict(head_dim=None, transformers_version="5.0", bos_token_id=1)),
  ],
)
def test_what_is_there_and_off_is_no_change(name, change):
  assert sizes(name, **change) == sizes(name)


def test_what_a_config_leaves_out_is_its_class_s_own():
  """Where two classes have another value, a wrong one loads and is wrong."""
  older = dict(released_seeing.OLDER, rms_norm_eps=None)
  assert qwen.config(older, "config.json")["norm_eps"] == 1e-5
  for name, eps in (("qwen2", 1e-6), ("qwen3", 1e-6)):
    assert sizes(name, rms_norm_eps=None)["norm_eps"] == eps
  assert sizes("qwen3", head_dim=None)["head_dim"] == 128


def test_sizes_are_fields_of_the_model():
  known = {field.name for field in dataclasses.fields(ModelConfig)}
  for name in released.CASES:
    assert sizes(name).keys() <= known


def test_each_spelling_of_llama3_is_read():
  said = dict(released.LLAMA3)
  theta = said.pop("rope_theta")
  older = dict(rope_parameters=None, rope_scaling=said, rope_theta=theta)
  found = sizes("llama3")
  assert found["rope_llama3"] == (8.0, 1.0, 4.0, 24.0)
  assert sizes("llama3", **older) == found
  assert sizes("llama3", rope_scaling=dict(released.LLAMA3)) == found
  with pytest.raises(UserError, match="has no high_freq_factor"):
    del said["high_freq_factor"]
    sizes("llama3", **older)


@pytest.mark.parametrize(
  ("whole", "half", "tied"),
  [
    (True, True, True),
    (False, False, False),
    (True, None, True),
    (None, False, False),
    # A class's default was written into one half: the tensors tell.
    (False, True, None),
    (True, False, None),
    (None, None, None),
  ],
)
def test_the_whole_model_and_its_text_half_say_what_the_head_is(
  whole, half, tied
):
  own = released.CASES["qwen3_vl"][0]["text_config"]
  own = own | {"tie_word_embeddings": half}
  change = dict(text_config=own, tie_word_embeddings=whole)
  assert sizes("qwen3_vl", **change)["tied_head"] is tied


def qwen2_5_vl_of_a_year(**top):
  """As transformers 4.52 to 4.54 wrote it: all of it twice, not all alike."""
  own = released.text("qwen2_5_vl_text", True, sliding_window=None)
  own["rope_parameters"] = released.ROPE | released.MULTI
  own |= released.FULL | dict(use_sliding_window=False, max_window_layers=28)
  own |= dict(vision_start_token_id=1, vision_end_token_id=2, vision_token_id=3)
  whole = own | {"model_type": "qwen2_5_vl", "sliding_window": 32768}
  del whole["layer_types"]
  whole |= {"text_config": own, "vision_config": released.OLDER_TOWER} | top
  return families.find(whole, "c").config(whole, "c")


def test_a_window_on_top_that_is_off_is_none():
  found = qwen2_5_vl_of_a_year()
  assert found == qwen2_5_vl_of_a_year(use_sliding_window=None)
  assert found["tied_head"] and found["qkv_bias"]
  with pytest.raises(UserError, match="sliding_window is 32768"):
    qwen2_5_vl_of_a_year(use_sliding_window=True)


def test_a_text_half_may_be_written_a_second_time_on_top():
  own = dict(released.CASES["qwen3_vl"][0]["text_config"])
  model_type = own.pop("model_type")
  assert sizes("qwen3_vl", **own) == sizes("qwen3_vl")
  assert model_type == "qwen3_vl_text"
  with pytest.raises(UserError, match="hidden_size is 25"):
    sizes("qwen3_vl", **(own | {"hidden_size": 25}))
