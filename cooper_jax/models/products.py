"""Matrix products of the model, with backward passes of their own.

JAX derives a product's gradients by the axes' letters, and on a CPU XLA then
writes whatever comes out in another order anew: softmax weights and logits,
the largest arrays there are. Here every gradient is asked for in an order in
which no operand is written again but the smaller one; a gradient that a product
can only give transposed is the smaller array, too.
"""

import jax
from jax import lax


def linear(x, kernel_DF):
  """x W: x [..., D] to [..., F]."""
  return _flat(_linear, x, kernel_DF)


def against_rows(x, table_VD):
  """x W^T: x [..., D] to [..., V], its product with each row of a table."""
  return _flat(_against_rows, x, table_VD)


def scores(q_BKALH, k_BKSH):
  """Queries times the keys of their key head, f32 [B, K, A, L, S]."""
  return _scores(q_BKALH, k_BKSH)


def mixed(weights_BKALS, v_BKSH):
  """Values as the weights mix them, f32 [B, K, A, L, H]."""
  return _mixed(weights_BKALS, v_BKSH)


def _flat(product, x, matrix):
  # One matrix product: XLA's CPU backend takes half as long again for the
  # same contraction, and its gradients, with two leading axes.
  y = product(x.reshape(-1, x.shape[-1]), matrix)
  return y.reshape(*x.shape[:-1], y.shape[-1])


def _dot(x, y, contract, batch=(), **options):
  """lax.dot_general over axes of x and of y, batched over the same of both."""
  return lax.dot_general(x, y, (contract, (batch, batch)), **options)


@jax.custom_vjp
def _linear(x_LD, kernel_DF):
  return _dot(x_LD, kernel_DF, ((1,), (0,)))


def _linear_back(kept, dy_LF):
  x_LD, kernel_DF = kept
  dx = _dot(dy_LF, kernel_DF, ((1,), (1,)))
  return dx, _dot(x_LD, dy_LF, ((0,), (0,)))


_linear.defvjp(lambda *given: (_linear(*given), given), _linear_back)


@jax.custom_vjp
def _against_rows(x_LD, table_VD):
  return _dot(x_LD, table_VD, ((1,), (1,)))


def _against_rows_back(kept, dy_LV):
  x_LD, table_VD = kept
  # The logits' gradient is made once, and not within each of two products.
  dy_LV = lax.optimization_barrier(dy_LV)
  dx = _dot(dy_LV, table_VD, ((1,), (0,)))
  # As [D, V], or all of dy would be transposed; the barrier keeps it so.
  d_table = lax.optimization_barrier(_dot(x_LD, dy_LV, ((0,), (0,))))
  return dx, d_table.T


_against_rows.defvjp(
  lambda *given: (_against_rows(*given), given), _against_rows_back
)

# Axes of attention's products: a batch of B and K, and A and L as one.
_HEADS = (0, 1)


@jax.custom_vjp
def _scores(q_BKALH, k_BKSH):
  f32 = {"preferred_element_type": "float32"}
  return _dot(q_BKALH, k_BKSH, ((4,), (3,)), _HEADS, **f32)


def _scores_back(kept, d_BKALS):
  q_BKALH, k_BKSH = kept
  dq = _dot(d_BKALS, k_BKSH, ((4,), (2,)), _HEADS)
  dk_BKHS = _dot(q_BKALH, d_BKALS, ((2, 3), (2, 3)), _HEADS)
  return dq.astype(q_BKALH.dtype), dk_BKHS.swapaxes(2, 3).astype(k_BKSH.dtype)


_scores.defvjp(lambda *given: (_scores(*given), given), _scores_back)


@jax.custom_vjp
def _mixed(weights_BKALS, v_BKSH):
  return _dot(
    weights_BKALS,
    v_BKSH,
    ((4,), (2,)),
    _HEADS,
    preferred_element_type="float32",
  )


def _mixed_back(kept, d_BKALH):
  weights_BKALS, v_BKSH = kept
  d_weights = _dot(d_BKALH, v_BKSH, ((4,), (3,)), _HEADS)
  dv_BKHS = _dot(d_BKALH, weights_BKALS, ((2, 3), (2, 3)), _HEADS)
  dv = dv_BKHS.swapaxes(2, 3)
  return d_weights.astype(weights_BKALS.dtype), dv.astype(v_BKSH.dtype)


_mixed.defvjp(lambda *given: (_mixed(*given), given), _mixed_back)
