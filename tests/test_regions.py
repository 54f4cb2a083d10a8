"""Neuropil rings, and where regions meet the lattice, against dense matrices."""

import numpy as np
import pytest
from helpers import correlated, dense_kernel, dense_phi, white
from scipy import ndimage

from udenoise.io import Rois, rois_from_masks
from udenoise.io.rois import rois_dense
from udenoise.regions import (
    RING_GAP_PX,
    RING_PIXELS,
    lay_out,
    locate,
    nearness,
    neuropil_rings,
    share_noise,
)

Y, X = 70, 90


def discs(shape, centres, radius) -> Rois:
    y, x = np.mgrid[: shape[0], : shape[1]]
    rng = np.random.default_rng(0)
    masks = [((y - cy) ** 2 + (x - cx) ** 2 <= radius**2) * rng.uniform(0.5, 1.5, shape) for cy, cx in centres]
    return rois_from_masks(np.array(masks, np.float32))


@pytest.fixture(scope="module")
def rois():
    return discs((Y, X), [(12, 15), (14, 27), (50, 60), (69, 0)], 5)


def test_rings_are_large_enough_keep_their_distance_and_avoid_every_roi(rois):
    own, rings = rois_dense(rois) > 0, rois_dense(neuropil_rings(rois))
    for mask, ring in zip(own, rings, strict=True):
        pixels = ring > 0
        assert pixels.sum() >= RING_PIXELS
        assert not (pixels & own.any(0)).any()
        assert ndimage.distance_transform_edt(~mask)[pixels].min() > RING_GAP_PX
        np.testing.assert_allclose(ring[pixels], 1 / pixels.sum(), rtol=1e-5)
        assert ring.sum() == pytest.approx(1, abs=1e-5)


def test_rings_are_the_nearest_pixels_that_are_free(rois):
    own, rings = rois_dense(rois) > 0, rois_dense(neuropil_rings(rois)) > 0
    for mask, ring in zip(own, rings, strict=True):
        distance = ndimage.distance_transform_edt(~mask)
        free = ~own.any(0) & (distance > RING_GAP_PX)
        assert distance[ring].max() < distance[free & ~ring].min()
        assert ring.sum() < RING_PIXELS + 40


def test_a_small_field_gives_what_it_has():
    rois = discs((16, 16), [(8, 8)], 4)
    ring = rois_dense(neuropil_rings(rois))[0] > 0
    distance = ndimage.distance_transform_edt(rois_dense(rois)[0] == 0)
    np.testing.assert_array_equal(ring, distance > RING_GAP_PX)
    assert 0 < ring.sum() < RING_PIXELS


def test_a_full_field_still_has_a_ring():
    labels = np.zeros((2, 16, 16), np.float32)
    labels[0, :, :8], labels[1, :, 8:] = 1, 1
    rings = rois_dense(neuropil_rings(rois_from_masks(labels)))
    np.testing.assert_allclose(rings.sum((1, 2)), 1, rtol=1e-5)
    assert not (rings[0] > 0)[labels[0] > 0].any()
    everything = rois_dense(neuropil_rings(rois_from_masks(np.ones((1, 16, 16), np.float32))))
    assert everything.sum() == pytest.approx(1)


def test_names_and_order_are_kept(rois):
    assert neuropil_rings(rois).names == rois.names and neuropil_rings(rois).shape == rois.shape


@pytest.mark.parametrize("spacing", [8, 16])
def test_node_windows_reproduce_the_dense_projection(rois, spacing):
    """Φᵀ w from the boxes of nodes equals the dense one, and nothing lies outside of the boxes."""
    rng = np.random.default_rng(1)
    factors = rng.standard_normal((Y, X, 2))
    parts = rois, neuropil_rings(rois)
    regions = lay_out(parts, spacing, white())
    phi = dense_phi(factors, spacing)
    rows, columns = -(-Y // spacing) + 1, -(-X // spacing) + 1
    for k, part in enumerate(parts):
        assert regions.rows.shape[-1] <= rows and regions.columns.shape[-1] <= columns
        dense = (rois_dense(part).reshape(len(part.names), -1) @ phi).reshape(-1, rows, columns, 2)
        at = factors[regions.index[k] // X, regions.index[k] % X]  # N P R
        box = np.einsum("np,npi,npj,npr->nijr", regions.weight[k], regions.rows[k], regions.columns[k], at)
        for n in range(len(part.names)):
            placed = np.zeros((rows + box.shape[1], columns + box.shape[2], 2))
            top, left = regions.first_row[n], regions.first_column[n]
            placed[top : top + box.shape[1], left : left + box.shape[2]] = box[n]
            np.testing.assert_allclose(placed[:rows, :columns], dense[n], atol=1e-5)
            np.testing.assert_array_equal(placed[rows:], 0)
            np.testing.assert_array_equal(placed[:, columns:], 0)


def test_boxes_of_nodes_are_as_small_as_the_regions():
    regions = lay_out((discs((Y, X), [(35, 44)], 3),), 8, white())  # rows 32 to 38, columns 41 to 47
    assert regions.rows.shape[-1] == 2 and regions.columns.shape[-1] == 2
    assert regions.first_row.tolist() == [4] and regions.first_column.tolist() == [5]


def test_weights_and_pixels_are_kept(rois):
    regions = lay_out((rois, neuropil_rings(rois)), 16, white())
    dense = np.zeros((len(rois.names), Y * X))
    np.add.at(dense, (np.arange(len(dense))[:, None], regions.index[0]), regions.weight[0])
    np.testing.assert_allclose(dense.reshape(-1, Y, X), rois_dense(rois), atol=1e-7)
    assert lay_out((rois,), 16, white()).weight.shape[0] == 1


@pytest.mark.parametrize("kernel", [white(), correlated(0.4), correlated(-0.2)], ids=["white", "blurred", "negative"])
def test_noise_of_a_region_by_brute_force(kernel):
    rois = discs((30, 34), [(10, 12), (29, 33), (20, 15)], 5)
    factor = lay_out((rois,), 16, kernel).kernel_factor[0]
    rho = dense_kernel(kernel, (30, 34))
    for w, value in zip(rois_dense(rois).reshape(3, -1).astype(float), factor, strict=True):
        assert value == pytest.approx(w @ rho @ w / (w @ w), rel=1e-5)


def even_discs(centres, side=96, radius=4) -> Rois:
    """ROIs of equal weights."""
    y, x = np.mgrid[:side, :side]
    return rois_from_masks(np.stack([np.hypot(y - a, x - b) <= radius for a, b in centres]))


def test_regions_are_as_near_as_the_nodes_they_hear():
    """1 at the same place, 0 two nodes away, less and less in between."""
    places = locate(even_discs([(40, 20), (40, 20), (40, 30), (40, 44), (40, 85)]))
    near = nearness(places)
    np.testing.assert_allclose((places.weight**2).sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(np.diag(near), 1, atol=1e-6)
    assert near[0, 1] == pytest.approx(1) and near[0, 4] == 0
    assert 1 > near[0, 2] > near[0, 3] > 0
    np.testing.assert_allclose(near, near.T)


def test_noise_is_shared_by_overlapping_regions_and_across_a_gap_as_wide_as_its_correlation():
    rois = even_discs([(40, 20), (40, 26), (40, 29), (40, 30), (70, 70)])
    white, wide = np.ones((1, 1)), np.array([[0, 0, 0], [0.3, 1, 0.3], [0, 0, 0]])
    assert share_noise(rois, white)[0].tolist() == [True, True, False, False, False]
    assert share_noise(rois, wide)[0].tolist() == [True, True, True, False, False]
