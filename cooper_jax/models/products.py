"""Matrix products of the model, with backward passes of their own.

JAX derives a product's gradients by the axes' letters, and on a CPU XLA then
writes whatever comes out in another order anew: softmax weights and logits,
the largest arrays there are. Here every gradient is asked for in an order in
which no operand is written again but the smaller one; a gradient that a product
can only give transposed is the smaller array, too.

Products with parameters round both operands to a dtype, so also the result's
gradient where it is one, and sum up in float32. But a parameter's gradient, x^T
dy, multiplies both in the dtype of x: on an accelerator that is the operands'
anyway, and of float32 activations on a CPU it is as fast, for AMX's kernels
take no transposed bfloat16. A parameter that no gradient is asked of, as a
frozen one beside its LoRA, costs no such product, nor is x kept for it.
"""

import functools
from typing import NamedTuple

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero

FEW = 128  # x that are fewer stand second in a step's products


def linear(x, kernel_DF, *, operands=None, result=None):
  """x W: x [..., D] times W [D, F], along its last axis.

  operands, result: dtypes of what is multiplied and of what comes out; None =
  that of x.
  """
  return _flat(_linear, x, kernel_DF, operands, result)


def against_rows(x, table_VD, *, operands=None, result=None):
  """x W^T: x [..., D] to [..., V], its product with each row of a table.

  operands, result: as in `linear`.
  """
  return _flat(_against_rows, x, table_VD, operands, result)


def laid_out(kernel_DF, *, operands):
  """A matrix [D, F] as `of_few` reads it: [F, D], where operands are float32.

  Of bfloat16 ones it stays: AMX's kernels take none that is transposed.
  """
  return kernel_DF.T if operands == "float32" else kernel_DF


def of_few(x, matrix, *, operands, result=None):
  """x W as `linear`, of few x [..., D] and a matrix of `laid_out`; no gradient.

  XLA's CPU backend first copies what stands second in a product. Of a step,
  whose x are few, that is to be x and not the matrix.
  """
  rows = x.reshape(-1, x.shape[-1])
  result = result or str(x.dtype)
  if operands != "float32":
    y = _rounded(rows, matrix, 1, 0, operands, result)
  elif len(rows) > FEW:
    y = _rounded(rows, matrix, 1, 1, operands, result)
  else:
    # The barrier, or XLA would turn the product round again.
    turned = _rounded(matrix, rows, 1, 1, operands, result)
    y = lax.optimization_barrier(turned).T
  return y.reshape(*x.shape[:-1], y.shape[-1])


def scores(q_BKALH, k_BKSH):
  """Queries times the keys of their key head, f32 [B, K, A, L, S]."""
  return _scores(q_BKALH, k_BKSH)


def mixed(weights_BKALS, v_BKSH):
  """Values as the weights mix them, f32 [B, K, A, L, H]."""
  return _mixed(weights_BKALS, v_BKSH)


def _flat(product, x, matrix, operands, result):
  # One matrix product: XLA's CPU backend takes half as long again for the
  # same contraction, and its gradients, with two leading axes.
  rows, own = x.reshape(-1, x.shape[-1]), str(x.dtype)
  dtypes = _Dtypes(operands or own, result or own, own, str(matrix.dtype))
  y = product(rows, matrix, dtypes)
  return y.reshape(*x.shape[:-1], y.shape[-1])


def _dot(x, y, contract, batch=(), **options):
  """lax.dot_general over axes of x and of y, batched over the same of both."""
  return lax.dot_general(x, y, (contract, (batch, batch)), **options)


def _rounded(x, y, x_axis, y_axis, operands, result):
  """The product over an axis of x and one of y, both rounded to `operands`."""
  x, y, axes = x.astype(operands), y.astype(operands), ((x_axis,), (y_axis,))
  return _dot(x, y, axes, preferred_element_type=result)


class _Dtypes(NamedTuple):
  """Of a product: what it multiplies, what comes out, what x and W are."""

  operands: str
  result: str
  x: str
  matrix: str


def _kept(product):
  """Forward of a product: it, and what its gradients need.

  x is for that of the matrix and the matrix for that of x, where it is asked
  for.
  """

  def forward(x, matrix, dtypes):
    kept = (
      x.value if matrix.perturbed else None,
      matrix.value if x.perturbed else None,
    )
    return product(x.value, matrix.value, dtypes), kept

  return forward


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _linear(x_LD, kernel_DF, dtypes):
  return _rounded(x_LD, kernel_DF, 1, 0, dtypes.operands, dtypes.result)


def _linear_back(dtypes, kept, dy):
  x_LD, kernel_DF = kept
  dx = d_kernel = None
  if isinstance(dy, SymbolicZero):
    return dx, d_kernel
  if kernel_DF is not None:
    dx = _rounded(dy, kernel_DF, 1, 1, dtypes.operands, dtypes.x)
  if x_LD is not None:
    d_kernel = _rounded(x_LD, dy, 0, 0, dtypes.x, dtypes.result)
    d_kernel = d_kernel.astype(dtypes.matrix)
  return dx, d_kernel


_linear.defvjp(_kept(_linear), _linear_back, symbolic_zeros=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _against_rows(x_LD, table_VD, dtypes):
  return _rounded(x_LD, table_VD, 1, 1, dtypes.operands, dtypes.result)


def _against_rows_back(dtypes, kept, dy_LV):
  x_LD, table_VD = kept
  dx = d_table = None
  if isinstance(dy_LV, SymbolicZero):
    return dx, d_table
  # The logits' gradient is made once, and not within each of two products.
  dy_LV = lax.optimization_barrier(dy_LV)
  if table_VD is not None:
    dx = _rounded(dy_LV, table_VD, 1, 0, dtypes.operands, dtypes.x)
  if x_LD is not None:
    # As [D, V], or all of dy would be transposed; the barrier keeps it so.
    d_table = _rounded(x_LD, dy_LV, 0, 0, dtypes.x, dtypes.result)
    d_table = lax.optimization_barrier(d_table).T.astype(dtypes.matrix)
  return dx, d_table


_against_rows.defvjp(
  _kept(_against_rows), _against_rows_back, symbolic_zeros=True
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
