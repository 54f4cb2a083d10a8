"""Low-rank-plus-diagonal Gaussians whose shared errors are local.

The error of a denoised frame is `s − μ ~ Normal(0, diag(d) + Φ Φᵀ)`. Column (g, r) of Φ is factor map r seen through the
window of lattice node g: `Φ[x, (g, r)] = B_g(x) U_r(x)`. The windows are quarter cosines between neighbouring nodes, so
`Σ_g B_g² = 1` everywhere and errors decorrelate smoothly with distance. Between four nodes lies a *cell* of
spacing × spacing pixels that only those four can reach; everything is a sum over cells, as in finite elements, and the
precision of the latents is block-tridiagonal over the rows of nodes: conditioning, marginal variances and draws
are exact and cost no iteration (Woodbury; block elimination as in the Rauch–Tung–Striebel smoother).

Frames here are padded to whole cells (`pad_to_cells`); variances are in whatever unit squared the residual has.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

HIGHEST = jax.lax.Precision.HIGHEST


class Latents(NamedTuple):
    """Posterior of the latents: `C[k, j]` is their covariance between node rows k and k + j."""

    mean: Float[Array, "rows columns R"]
    band: Float[Array, "rows reach columns R columns R"]
    cholesky: Float[Array, "rows columnsR columnsR"]
    gain: Float[Array, "rows columnsR columnsR"]


class Conditioned(NamedTuple):
    """`s − μ` given the data: `shift + shrink · Φ (z − E z) + Normal(0, diagonal)`."""

    shift: Float[Array, "Y X"]
    diagonal: Float[Array, "Y X"]
    shrink: Float[Array, "Y X"]
    latents: Latents


def pad_to_cells(shape: tuple[int, int], spacing: int) -> tuple[int, int]:
    """Smallest multiples of the spacing that hold a frame."""
    return tuple(-(-side // spacing) * spacing for side in shape)


def window(spacing: int) -> Float[np.ndarray, "2 spacing"]:
    """Weights of the nodes before and after, at the pixels between: quarter cosines, squares sum to 1."""
    phase = (np.arange(spacing) + 0.5) / spacing * np.pi / 2
    return np.stack([np.cos(phase), np.sin(phase)]).astype(np.float32)


def to_cells(image: Float[Array, "Y X *C"], spacing: int) -> Float[Array, "cy cx pixels *C"]:
    """Cut a padded image into cells, pixels row by row."""
    Y, X, *rest = image.shape
    cut = image.reshape(Y // spacing, spacing, X // spacing, spacing, *rest)
    return jnp.moveaxis(cut, 2, 1).reshape(Y // spacing, X // spacing, spacing**2, *rest)


def from_cells(cells: Float[Array, "cy cx pixels"], spacing: int) -> Float[Array, "Y X"]:
    """Inverse of `to_cells` for one channel."""
    cy, cx, _ = cells.shape
    return jnp.moveaxis(cells.reshape(cy, cx, spacing, spacing), 1, 2).reshape(cy * spacing, cx * spacing)


def cell_design(factors: Float[Array, "Y X R"], spacing: int) -> Float[Array, "cy cx pixels D"]:
    """Φ restricted to each cell: D = 4 R columns, in the order (node row, node column, factor)."""
    w = window(spacing)
    nodes = jnp.asarray(np.einsum("iy,jx->yxij", w, w).reshape(spacing**2, 4))
    cells = to_cells(factors, spacing)
    return (nodes[:, :, None] * cells[:, :, :, None, :]).reshape(*cells.shape[:3], -1)


def _assemble(local: Float[Array, "cy cx D D"]) -> tuple[Array, Array]:
    """Sum cell matrices into diagonal and upper blocks between node rows."""
    cy, cx, D, _ = local.shape
    R = D // 4
    parts = local.reshape(cy, cx, 2, 2, R, 2, 2, R)
    at = np.arange(cx)

    def columns(block: Array) -> Array:  # (cy, cx, 2, R, 2, R) -> (cy, nodes R, nodes R)
        out = jnp.zeros((cy, cx + 1, cx + 1, R, R))
        for j in range(2):
            for k in range(2):
                out = out.at[:, at + j, at + k].add(block[:, :, j, :, k])
        return out.transpose(0, 1, 3, 2, 4).reshape(cy, (cx + 1) * R, (cx + 1) * R)

    upper = columns(parts[:, :, 0, :, :, 1])
    diagonal = jnp.pad(columns(parts[:, :, 0, :, :, 0]), ((0, 1), (0, 0), (0, 0)))
    return diagonal.at[1:].add(columns(parts[:, :, 1, :, :, 1])), upper


def _assemble_vector(local: Float[Array, "cy cx D"]) -> Float[Array, "rows columns R"]:
    cy, cx, D = local.shape
    parts = local.reshape(cy, cx, 2, 2, D // 4)
    out = jnp.zeros((cy + 1, cx + 1, D // 4))
    for i in range(2):
        for j in range(2):
            out = out.at[i : cy + i, j : cx + j].add(parts[:, :, i, j])
    return out


def at_cells(latents: Float[Array, "rows columns R"]) -> Float[Array, "cy cx D"]:
    """The four nodes around each cell, in the order of `cell_design`."""
    corners = [latents[i : i + latents.shape[0] - 1, j : j + latents.shape[1] - 1] for i in (0, 1) for j in (0, 1)]
    return jnp.concatenate(corners, axis=-1)


def _solve_latents(diagonal: Array, upper: Array, right: Array, reach: int) -> Latents:
    """Mean and banded covariance of `Normal(H⁻¹ h, H⁻¹)` for block-tridiagonal H (one sweep down, one up)."""
    rows, size, _ = diagonal.shape
    columns, R = right.shape[1:]
    upper = jnp.concatenate([upper, jnp.zeros((1, size, size))])

    def down(carry, block):
        schur_term, right_term = carry
        H, O, h = block
        L = jnp.linalg.cholesky(H - schur_term)
        solved = jax.scipy.linalg.cho_solve((L, True), jnp.concatenate([O, (h - right_term)[:, None]], axis=1))
        G, x = solved[:, :size], solved[:, size]
        return (jnp.matmul(O.T, G, precision=HIGHEST), jnp.matmul(O.T, x, precision=HIGHEST)), (L, G, x)

    start = (jnp.zeros((size, size)), jnp.zeros(size))
    _, (L, G, x) = jax.lax.scan(down, start, (diagonal, upper, right.reshape(rows, size)))

    def up(carry, block):
        x_next, band = carry
        L, G, x = block
        inverse = jax.scipy.linalg.cho_solve((L, True), jnp.eye(size))
        across = -jnp.matmul(G, band, precision=HIGHEST)  # C[k, k + j] = −G C[k + 1, k + j]
        own = inverse - jnp.matmul(across[0], G.T, precision=HIGHEST)
        x = x - jnp.matmul(G, x_next, precision=HIGHEST)
        band = jnp.concatenate([own[None], across[:-1]])
        return (x, band), (x, band)

    start = (jnp.zeros(size), jnp.zeros((reach, size, size)))
    _, (x, band) = jax.lax.scan(up, start, (L, G, x), reverse=True)
    shaped = band.reshape(rows, reach, columns, R, columns, R)
    return Latents(x.reshape(rows, columns, R), shaped, L, G)


def condition(
    residual: Float[Array, "Y X"],
    diagonal: Float[Array, "Y X"],
    factors: Float[Array, "Y X R"],
    noise: Float[Array, "Y X"],
    spacing: int,
    reach: int = 2,
) -> Conditioned:
    """`s − μ` given `y − μ = residual`, for prior `diag(diagonal) + Φ Φᵀ` and independent noise of variance `noise`.

    Woodbury: the latents have precision `I + Φᵀ (diag(d) + N)⁻¹ Φ`. Where nothing was measured `noise` is infinite.
    `reach` is how many node rows the returned covariance band spans (1: none but its own).
    """
    precision = 1.0 / (diagonal + noise)
    design = cell_design(factors, spacing)
    weighted = design * to_cells(precision, spacing)[..., None]
    gram = jnp.einsum("abpi,abpj->abij", weighted, design, precision=HIGHEST)
    right = jnp.einsum("abpi,abp->abi", weighted, to_cells(residual, spacing), precision=HIGHEST)
    H, upper = _assemble(gram)
    latents = _solve_latents(H + jnp.eye(H.shape[-1]), upper, _assemble_vector(right), reach)
    shrink = jnp.where(jnp.isinf(noise), 1.0, noise * precision)  # v / (d + v)
    shared = from_cells(jnp.einsum("abpi,abi->abp", design, at_cells(latents.mean)), spacing)
    shift = shared + (1 - shrink) * (residual - shared)
    return Conditioned(shift, shrink * diagonal, shrink, latents)


def log_likelihood(
    residual: Float[Array, "cy cx pixels"],
    diagonal: Float[Array, "cy cx pixels"],
    design: Float[Array, "cy cx pixels D"],
) -> Float[Array, ""]:
    """Log-density of a residual, cut into cells, under `Normal(0, diag(diagonal) + Φ Φᵀ)`, without the 2π.

    Determinant lemma and Woodbury: `log|D + ΦΦᵀ| = log|D| + log|H|`, `H = I + Φᵀ D⁻¹ Φ`.
    """
    weighted = design / diagonal[..., None]
    H, upper = _assemble(jnp.einsum("abpi,abpj->abij", weighted, design, precision=HIGHEST))
    right = _assemble_vector(jnp.einsum("abpi,abp->abi", weighted, residual, precision=HIGHEST))
    H, right = H + jnp.eye(H.shape[-1]), right.reshape(H.shape[0], H.shape[1])
    upper = jnp.concatenate([jnp.zeros((1, *upper.shape[1:])), upper])

    def down(carry, block):
        L_before, x_before = carry
        H, O, h = block
        half = jax.scipy.linalg.solve_triangular(L_before, O, lower=True)
        L = jnp.linalg.cholesky(H - jnp.matmul(half.T, half, precision=HIGHEST))
        x = jax.scipy.linalg.solve_triangular(L, h - jnp.matmul(half.T, x_before, precision=HIGHEST), lower=True)
        return (L, x), 2 * jnp.sum(jnp.log(jnp.diag(L))) - jnp.sum(x**2)

    size = H.shape[-1]
    _, terms = jax.lax.scan(down, (jnp.eye(size), jnp.zeros(size)), (H, upper, right))
    return -0.5 * (jnp.sum(jnp.log(diagonal) + residual**2 / diagonal) + jnp.sum(terms))


def shared_variance(factors: Float[Array, "Y X R"], latents: Latents, spacing: int) -> Float[Array, "Y X"]:
    """Diagonal of `Φ C Φᵀ`."""
    design = cell_design(factors, spacing)
    covariance = cell_covariance(latents)
    return from_cells(jnp.einsum("abpi,abij,abpj->abp", design, covariance, design, precision=HIGHEST), spacing)


def cell_covariance(latents: Latents) -> Float[Array, "cy cx D D"]:
    """Posterior covariance of the four nodes around each cell."""
    rows, _, columns, R, _, _ = latents.band.shape
    at = np.arange(columns - 1)

    def between(block: Array) -> Array:  # (cy, nodes, R, nodes, R) -> (cy, cx, 2, R, 2, R)
        corner = [[block[:, at + j, :, at + k].transpose(1, 0, 2, 3) for k in (0, 1)] for j in (0, 1)]
        return jnp.stack([jnp.stack(row, axis=3) for row in corner], axis=2)

    own = between(latents.band[:, 0])
    across = between(latents.band[:-1, 1])
    top = jnp.stack([own[:-1], across], axis=4)
    bottom = jnp.stack([across.transpose(0, 1, 4, 5, 2, 3), own[1:]], axis=4)
    both = jnp.stack([top, bottom], axis=2)  # cy cx i j r i' k r'
    return both.reshape(rows - 1, columns - 1, 4 * R, 4 * R)


def draw_latents(latents: Latents, white: Float[Array, "rows columns R"]) -> Float[Array, "rows columns R"]:
    """Turn standard normals into a draw of the latents: `z_k = E z_k + L_k⁻ᵀ ζ_k − G_k (z − E z)_{k+1}`."""
    rows, columns, R = white.shape

    def up(after, block):
        L, G, zeta = block
        own = jax.scipy.linalg.solve_triangular(L.T, zeta, lower=False)
        z = own - jnp.matmul(G, after, precision=HIGHEST)
        return z, z

    flat = white.reshape(rows, columns * R)
    _, z = jax.lax.scan(up, jnp.zeros(columns * R), (latents.cholesky, latents.gain, flat), reverse=True)
    return latents.mean + z.reshape(white.shape)


def apply_factors(
    factors: Float[Array, "Y X R"], latents: Float[Array, "rows columns R"], spacing: int
) -> Float[Array, "Y X"]:
    """`Φ z`."""
    return from_cells(jnp.einsum("abpi,abi->abp", cell_design(factors, spacing), at_cells(latents)), spacing)


def dense_factors(factors: Float[Array, "Y X R"], spacing: int) -> Float[Array, "pixels latents"]:
    """Φ as a dense matrix, for small frames (tests, and reading what the windows do)."""
    Y, X, R = factors.shape
    nodes = (Y // spacing + 1, X // spacing + 1, R)
    unit = jnp.eye(int(np.prod(nodes))).reshape(-1, *nodes)
    return jax.vmap(lambda z: apply_factors(factors, z, spacing))(unit).reshape(len(unit), Y * X).T
