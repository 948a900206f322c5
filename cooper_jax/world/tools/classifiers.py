"""Small classifiers in numpy, which measure what a shortcut can know."""

from __future__ import annotations

import numpy as np


def _sigmoid(x):
  return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def logistic(
  features: np.ndarray, truth: np.ndarray, *, penalty: float = 1.0
) -> np.ndarray:
  """Weights [features] of a ridge logistic regression, by Newton's method."""
  weights = np.zeros(features.shape[1])
  ridge = penalty * np.eye(len(weights))
  for _ in range(12):
    p = _sigmoid(features @ weights)
    slope = features.T @ (p - truth) + penalty * weights
    bend = (features * (p * (1 - p))[:, None]).T @ features + ridge
    step = np.linalg.solve(bend, slope)
    weights -= step
    if np.abs(step).max() < 1e-6:
      break
  return weights


def perceptron(
  features: np.ndarray,
  truth: np.ndarray,
  held: np.ndarray,
  *,
  hidden: int = 32,
  steps: int = 300,
  seed: int = 0,
) -> np.ndarray:
  """Trains one hidden layer with Adam; returns its decisions on `held`."""
  mean, scale = features.mean(0), features.std(0) + 1e-6
  x = ((features - mean) / scale).astype(np.float32)
  held = ((held - mean) / scale).astype(np.float32)
  y = truth.astype(np.float32)
  rng = np.random.default_rng(seed)
  inputs = x.shape[1]
  weights = [
    rng.normal(0, inputs**-0.5, (inputs, hidden)).astype(np.float32),
    np.zeros(hidden, np.float32),
    rng.normal(0, hidden**-0.5, hidden).astype(np.float32),
    np.zeros((), np.float32),
  ]
  first = [np.zeros_like(w) for w in weights]
  second = [np.zeros_like(w) for w in weights]
  for step in range(1, steps + 1):
    inner = np.tanh(x @ weights[0] + weights[1])
    error = (_sigmoid(inner @ weights[2] + weights[3]) - y) / len(y)
    back = error[:, None] * weights[2] * (1 - inner * inner)
    slopes = [
      x.T @ back + 1e-4 * weights[0],
      back.sum(0),
      inner.T @ error + 1e-4 * weights[2],
      error.sum(),
    ]
    rate = 0.03 * (1 - 0.9 * step / steps)
    for i, slope in enumerate(slopes):
      first[i] = 0.9 * first[i] + 0.1 * slope
      second[i] = 0.99 * second[i] + 0.01 * slope * slope
      moved = first[i] / (1 - 0.9**step)
      spread = np.sqrt(second[i] / (1 - 0.99**step)) + 1e-8
      weights[i] = weights[i] - rate * moved / spread
  inner = np.tanh(held @ weights[0] + weights[1])
  return inner @ weights[2] + weights[3] > 0
