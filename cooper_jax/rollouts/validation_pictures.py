"""Pictures of a stage: what a policy draws of a few validation scenes; files.

Every process has to call for them, as parameters are on all; the first one
draws, on its own devices.
"""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from cooper_jax.data import mixture
from cooper_jax.data.sources import DataConfig
from cooper_jax.parallel import processes
from cooper_jax.pictures import drawing
from cooper_jax.policy import own_params
from cooper_jax.rollouts import generate

SCENES = 4  # rows of the picture


def drawn(config, policy, codecs, frozen=None):
  """images(step, state) of `loop.Loop`: a row a scene.

  A row is the image, then the true map and the drawn one of each modality,
  both in one scale; what has no truth leaves a hole. frozen: what LoRA trains
  beside, None without.
  """
  samples = []

  def images(step, state):
    del step
    params = own_params(policy, state.params, frozen)
    if not processes.is_first():
      return {}
    with processes.alone():
      if not samples:
        data = DataConfig.from_config(config)
        split = mixture.open_tolerant(data, "validation")
        samples.extend(itertools.islice(mixture.readable(split), SCENES))
      maps = {
        name: generate.draw(
          policy,
          params,
          samples,
          name,
          codec,
          batch=SCENES,
          buckets=config.sampling.prompt_buckets,
        )
        for name, codec in codecs.items()
      }
    return {"drawn": sheet(samples, maps, codecs)}

  return images


def sheet(samples, maps, codecs) -> np.ndarray:
  """u8 [H, W, 3] of samples and their drawn maps by modality."""
  rows = []
  for i, sample in enumerate(samples):
    row = [np.asarray(sample.image)]
    for name, targets in maps.items():
      true, made = codecs[name].modality.read(sample), targets[i]
      panels = codecs[name].modality.panels(true, made)
      row += [picture for _, picture in panels[:2]]
    rows.append(drawing.strip(row))
  return drawing.rows(rows)


def save_png(folder: Path, pictures) -> None:
  """Writes PNG files, enlarged so that single pixels can be told."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, picture in pictures.items():
    large = picture.repeat(3, axis=0).repeat(3, axis=1)
    Image.fromarray(large).save(folder / f"{name.rsplit('/', 1)[-1]}.png")
