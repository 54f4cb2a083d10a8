"""Streaming: chunks and tiles do not matter, the hidden frame is unseen, what is masked stays out."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from helpers import GAIN, OFFSET, READ, SMALL, correlated, movie_counts, random_denoiser, recording_of, untrained

from udenoise import innovation
from udenoise.anatomy import Anatomy, anatomy_maps, estimate_anatomy
from udenoise.config import DenoiseConfig
from udenoise.denoiser import Denoiser
from udenoise.errors import InputError
from udenoise.inference import (
    measure_scales,
    measure_spread,
    predict_chunk,
    prepare,
    read_chunk,
    stream,
    stream_with_events,
)
from udenoise.io import Movie
from udenoise.network import HALO
from udenoise.posterior import Evidence, Recalibration
from udenoise.recording import Recording, scaling
from udenoise.regions import lay_out, neuropil_rings

T, Y, X, C = 21, 30, 44, SMALL.context


@cache
def rois_of(shape):
    from test_regions import discs

    return discs(shape, [(8, 10), (20, 30)], 4)


def machine(recording: Recording, regions: bool = True, config=SMALL, **how):
    shape = recording.movie.shape[1:]
    parts = (rois_of(shape), neuropil_rings(rois_of(shape)))
    where = lay_out(parts, config.lattice_spacing, recording.noise.kernel) if regions else None
    return prepare(recording, random_denoiser(config), DenoiseConfig(**how), where)


def collect(inference, start: int = 0, stop: int | None = None, **how):
    """Posterior of frames [start, stop), one array per part."""
    stop = len(inference.recording.movie) if stop is None else stop
    parts = list(stream(inference, start, stop, Recalibration(), **how))
    assert [first for first, _ in parts] == list(range(start, stop, inference.config.chunk))
    return jax.tree.map(lambda *x: np.concatenate(x), *(part for _, part in parts))


def assert_close(one, other, rtol=1e-4, atol=1e-3):
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def recording():
    return recording_of(movie_counts(T, Y, X), kernel=correlated(0.2), bad_rows=[(4, 9), (5, 9), (20, 0)],
                        bad_frames=[7], breaks=[14])  # fmt: skip


@pytest.fixture(scope="module")
def eights(recording):
    return machine(recording, chunk=8)


@pytest.fixture(scope="module")
def whole(eights):
    return collect(eights)


def test_as_many_frames_come_out_as_go_in(whole):
    assert whole.mean.shape == (T, Y, X) and whole.regions.covariance.shape == (T, 2, 2, 2)
    assert all(np.isfinite(image).all() for image in whole[:4])
    assert (whole.sd > 0).all() and (whole.sd <= whole.prior_sd * 1.0001).all()
    assert np.ptp(whole.mean, axis=0).min() > 0


def test_everything_is_compiled_once(eights, whole):
    """21 frames in chunks of 8: the last chunk is short, and still nothing new is compiled."""
    assert T % eights.config.chunk and len(whole.mean) == T
    assert [f._cache_size() for f in (eights.prior, eights.fuse, eights.average)] == [1, 1, 1]


@pytest.mark.parametrize("chunk", [1, 5])
def test_the_chunk_size_does_not_matter(recording, whole, chunk):
    assert_close(collect(machine(recording, chunk=chunk)), whole)


def test_a_part_of_the_movie_is_the_part_of_the_whole(eights, whole):
    assert_close(collect(eights, 6, 15), jax.tree.map(lambda x: x[6:15], whole), rtol=1e-5, atol=1e-4)


def test_what_was_dropped_changes_nothing(recording, whole):
    """65535 or 0 in masked rows and frames: bit by bit the same."""
    spoiled = recording.movie.read(0, T).copy()
    spoiled[4:6, 9], spoiled[20, 0], spoiled[7] = 65535, 0, 65535
    known = dict(kernel=correlated(0.2), bad_rows=[(4, 9), (5, 9), (20, 0)], bad_frames=[7], breaks=[14])
    other = collect(machine(recording_of(spoiled, **known), chunk=8))
    for name, x, y in zip(whole._fields[:4], whole, other, strict=False):
        np.testing.assert_array_equal(x, y, err_msg=name)
    for x, y in zip(whole.regions, other.regions, strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_allclose(whole.mean[7], whole.prior_mean[7], rtol=1e-5)  # nothing was heard
    assert np.isnan(whole.regions.raw[7]).all() and np.isfinite(np.delete(whole.regions.raw, 7, 0)).all()


def changed(recording: Recording, t: int) -> Recording:
    """Frame t replaced by noise, the anatomy made anew."""
    counts = recording.movie.read(0, T).copy()
    counts[t] = np.random.default_rng(9).integers(0, 65535, counts.shape[1:])
    movie = replace(recording.movie, reader=lambda a, b: counts[a:b])
    return Recording(movie, recording.noise, estimate_anatomy(movie, recording.noise))


def mapped(recording: Recording) -> Recording:
    return recording._replace(maps=anatomy_maps(recording.movie, recording.noise))


def prior_of(inference, t: int, chunk: int = 8):
    first = t // chunk * chunk
    prior = predict_chunk(inference, read_chunk(inference, first, chunk))
    return jax.tree.map(lambda x: np.asarray(x[t - first]), prior)


@pytest.mark.parametrize(("given", "t"), [("mean", 0), ("mean", 11), ("mean", T - 1), ("none", 11), ("baseline", 11),
                                          ("std", 11), ("correlation", 0), ("correlation", 11)])  # fmt: skip
def test_the_prior_does_not_depend_on_the_hidden_frame_bit_by_bit(recording, monkeypatch, given, t):
    """The windows and the images leave it out; the field's centre and spread are numbers of the denoiser, held."""
    scale = scaling(recording)
    monkeypatch.setattr("udenoise.inference.scaling", lambda _: scale)
    monkeypatch.setattr("udenoise.recording.centre", lambda _: float(scale.level[0]))
    one, other = (machine(mapped(r), config=replace(SMALL, anatomy=given), chunk=8)
                  for r in (recording, changed(recording, t)))  # fmt: skip
    for name, x, y in zip(("deviation", "diagonal", "factors"), prior_of(one, t), prior_of(other, t), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)
    near = t - 1 if t else 1
    assert not np.array_equal(prior_of(one, near).deviation, prior_of(other, near).deviation)


@pytest.mark.parametrize("given", ["none", "baseline", "std", "correlation"])
def test_every_choice_of_anatomy_is_a_network_of_its_own(recording, given):
    seen = mapped(recording)
    usual, other = (prior_of(machine(seen, config=replace(SMALL, anatomy=a), chunk=8), 11) for a in ("mean", given))
    assert not np.allclose(usual.deviation, other.deviation) and np.isfinite(other.deviation).all()


def test_tiles_leave_no_seam_in_maps(recording):
    config = replace(SMALL, anatomy="correlation")
    wide = mapped(recording_of(movie_counts(12, 24, 240)))
    one, other = (prior_of(machine(wide, regions=False, config=config, chunk=8, tile=tile), 3) for tile in (512, 112))
    assert_close(one, other)


def test_frames_beyond_the_movie_are_empty(eights):
    chunk = read_chunk(eights, 16, 8)
    assert not chunk.weights[T - 16 :].any() and not chunk.evidence.good[T - 16 :].any()
    assert chunk.weights[0, :, C - 0 : C + 1].sum() == 0  # the hidden frame


def test_windows_are_averages_of_the_movie(recording, eights):
    chunk = read_chunk(eights, 8, 8)
    movie = np.pad(recording.movie.read(0, T).astype(float), ((C, C), (0, 0), (0, 0)))
    b = 2  # frame 10, far from what was dropped
    expected = np.einsum("kw,wyx->kyx", chunk.weights[b].astype(float), movie[8 : 8 + 8 + 2 * C])
    np.testing.assert_allclose(chunk.averages[b], expected, rtol=1e-5)
    np.testing.assert_array_equal(chunk.evidence.frame[b], movie[10 + C])


@pytest.fixture(scope="module")
def wide():
    return recording_of(movie_counts(12, 56, 252, seed=2))


def test_tiles_leave_no_seam(wide):
    """Tiles of the smallest size against the frame at once; frames that are no multiple of the stride."""
    once, tiled = (machine(wide, regions=False, chunk=2, tile=tile) for tile in (512, 64))
    one, other = (predict_chunk(inference, read_chunk(inference, 4, 2)) for inference in (once, tiled))
    assert tiled.prior._cache_size() == 1
    assert 64 + 2 * HALO < 252
    assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_dropout_draws_are_one_network_over_all_chunks_and_add_to_the_error(recording):
    """The draws enter as further factor maps; their number changes no shape but that."""
    often = replace(SMALL, dropout_rate=0.3)
    plain, drawn = (machine(recording, False, often, chunk=4, **how) for how in ({}, {"uncertainty": "dropout", "passes": 3}))
    one, other = (predict_chunk(inference, read_chunk(inference, 8, 4)) for inference in (plain, drawn))
    assert other.factors.shape[-1] == SMALL.factors + 3
    spread = np.asarray(other.factors[..., SMALL.factors :])
    np.testing.assert_allclose(spread.sum(-1), 0, atol=1e-4)
    assert spread.std() > 1e-3 and not np.allclose(one.deviation, other.deviation)
    again = predict_chunk(drawn, read_chunk(drawn, 7, 4))
    np.testing.assert_allclose(again.deviation[1], other.deviation[0], rtol=1e-4, atol=1e-4)


def test_dropout_draws_of_a_network_without_dropout_are_refused(recording):
    with pytest.raises(InputError, match="without dropout"):
        machine(recording, False, replace(SMALL, dropout_rate=0.0), uncertainty="dropout")


def test_an_ensemble_is_the_mean_of_its_networks_and_their_spread(recording):
    """Two networks: the mean, and a factor map ±(a − b)/2 each, whose squares sum to half their squared difference."""
    networks = [random_denoiser(SMALL, seed) for seed in (0, 1)]
    alone = [prepare(recording, net, DenoiseConfig(chunk=4)) for net in networks]
    both = prepare(recording, networks[0], DenoiseConfig(chunk=4, uncertainty="ensemble"), others=(networks[1],))
    one, other, mixed = (predict_chunk(machine, read_chunk(machine, 8, 4)) for machine in (*alone, both))
    np.testing.assert_allclose(mixed.deviation, (one.deviation + other.deviation) / 2, rtol=1e-4, atol=1e-5)
    spread = np.square(mixed.factors[..., SMALL.factors :]).sum(-1)
    np.testing.assert_allclose(spread, np.square(one.deviation - other.deviation) / 2, rtol=1e-3, atol=1e-6)
    with pytest.raises(InputError, match="several networks"):
        prepare(recording, networks[0], DenoiseConfig(uncertainty="ensemble"))


def test_memory_is_bounded_by_the_chunk(eights):
    """A movie of 100,000 frames that exists nowhere: never more than a chunk and its margins are asked for."""
    asked, length = [], 100_000

    def reader(start, stop):
        asked.append(stop - start)
        return np.random.default_rng(start).integers(80, 120, (stop - start, Y, X)).astype(np.uint16)

    image = np.full((Y, X), 100.0)
    anatomy = Anatomy(image * length, np.full((Y, X), length, np.int32), *(image.astype(np.float32),) * 5)
    noise = eights.recording.noise._replace(frame_mean=np.full(length, 100, np.float32))
    movie = Movie((length, Y, X), np.dtype(np.uint16), 10.0, "endless", reader)
    inference = replace(eights, recording=Recording(movie, noise, anatomy))
    found = collect(inference, 50_000, 50_040)
    assert len(found.mean) == 40 and max(asked) <= 8 + 2 * C and sum(asked) <= 5 * (8 + 2 * C)


def test_a_change_of_the_frames_reaches_windows_and_evidence_but_not_the_anatomy(eights):
    shift = lambda first, frames: frames.astype(np.float32) + 10  # noqa: E731
    plain, moved = read_chunk(eights, 8, 8), read_chunk(eights, 8, 8, shift)
    np.testing.assert_array_equal(plain.evidence.mean, moved.evidence.mean)
    np.testing.assert_allclose(moved.evidence.frame, plain.evidence.frame + 10)
    full = plain.weights.sum(-1) > 0.5
    np.testing.assert_allclose(moved.averages[full], plain.averages[full] + 10, rtol=1e-5)


def test_residuals_at_all_scales_are_those_of_the_prior(recording, eights):
    """Scale 1 by hand: squared residuals, own variance and noise over the pixels that are real."""
    moments = jax.tree.map(lambda part: part.sum(0), measure_scales(eights, np.array([0, 8]), lambda done: None))
    squared = own = count = 0.0
    for first in (0, 8):
        chunk = read_chunk(eights, first, 8)
        prior, evidence = predict_chunk(eights, chunk), Evidence(*map(np.asarray, chunk.evidence))
        sigma = np.sqrt((recording.noise.gain * evidence.mean + recording.noise.intercept) * evidence.ratio)
        residual = (evidence.frame - evidence.mean) / sigma - np.asarray(prior.deviation)
        squared += (residual**2 * evidence.good).sum()
        own += (np.asarray(prior.diagonal) * evidence.good).sum()
        count += evidence.good.sum()
    np.testing.assert_allclose([moments.squared[0], moments.own[0], moments.count[0]], [squared, own, count], rtol=1e-3)
    assert (np.diff(moments.count) < 0).all() and (moments.noise > 0).all()


# --- events that only the frame itself shows

FLASH = {"frame": 9, "y": 12, "x": 25, "sigma_px": 1.8, "duration": 2, "amplitude": 900.0}


def static_movie(flash: bool) -> Recording:
    """A movie of nothing but photons, with a flash that no neighbour knows."""
    random = np.random.default_rng(4)
    photons = np.full((T, Y, X), 6.0)
    if flash:
        at = innovation.Events(*(np.array([value]) for value in FLASH.values()), np.ones(1), np.ones(1))
        photons += innovation.render(at, photons.shape) / GAIN
    counts = GAIN * random.poisson(photons) + random.normal(OFFSET, READ, photons.shape)
    return recording_of(np.round(counts).astype(np.uint16))


def anatomy_only(recording: Recording, **how):
    """A machine whose blind prediction is the mean image."""
    net = Denoiser(SMALL, untrained(), 10.0, 10.0)
    where = lay_out((rois_of((Y, X)),), SMALL.lattice_spacing, recording.noise.kernel)
    return prepare(recording, net, DenoiseConfig(**how), where)


def heard(inference, stop=T):
    """Movie, ROIs and events, as one."""
    widths = np.ones((3, Y, X), np.float32)
    parts = list(stream_with_events(inference, 0, stop, Recalibration(), widths))
    events = innovation.joined([innovation.shifted(one.events, first) for first, _, one in parts])
    images = [np.concatenate([getattr(result, name) for _, result, _ in parts]) for name in ("mean", "sd")]
    regions = [np.concatenate([getattr(one, name) for _, _, one in parts]) for name in ("added", "variance")]
    return images, [np.concatenate([result.regions.raw for _, result, _ in parts]), *regions], events


def test_error_bars_hold_that_of_the_mean_image(recording, whole):
    """`σ²/T` of every pixel, which no residual shows; without anatomy nothing is told as a deviation from it."""
    bare = machine(recording, chunk=8)
    assert np.all(machine(recording, config=replace(SMALL, anatomy="none")).still == 0)
    plain = collect(replace(bare, still=np.zeros((Y, X))))
    variance = recording.noise.pixel_variance(recording.anatomy.mean) / recording.anatomy.count
    for name in ("sd", "prior_sd"):
        added = np.square(getattr(whole, name)) - np.square(getattr(plain, name))
        np.testing.assert_allclose(added, np.broadcast_to(variance, added.shape), rtol=0.02)


@pytest.fixture(scope="module")
def flash():
    recording = static_movie(flash=True)
    return recording, heard(anatomy_only(recording, chunk=8))


def test_a_flash_is_put_back_with_its_error_bar(flash):
    """Where a Gaussian fusion leaves a fraction of it."""
    recording, ((mean, sd), (raw, added, variance), events) = flash
    machine = anatomy_only(recording, chunk=8)
    plain = np.concatenate([part.mean for _, part in stream(machine, 0, T, Recalibration())])
    at = FLASH["frame"], FLASH["y"], FLASH["x"]
    rest = np.median(mean)
    assert plain[at] - rest < 0.5 * FLASH["amplitude"]
    assert (
        mean[at] - rest == pytest.approx(FLASH["amplitude"], abs=4 * float(sd[at]))
        and sd[at] < 0.25 * FLASH["amplitude"]
    )
    assert at in zip(events.frame, events.y, events.x, strict=True)
    whole = raw + added  # what is left out of the moments comes back
    unchanged = np.concatenate([part.regions.raw for _, part in stream(machine, 0, T, Recalibration())])
    np.testing.assert_allclose(whole, unchanged, rtol=1e-4)
    assert (variance > 0).any() and (variance[added == 0] == 0).all()


@pytest.mark.parametrize("chunk", [1, 5, 32])
def test_events_do_not_depend_on_the_chunk(flash, chunk):
    recording, (images, regions, events) = flash
    again = heard(anatomy_only(recording, chunk=chunk))
    for one, other in zip([*images, *regions, *events], [*again[0], *again[1], *again[2]], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-2)


def test_a_movie_without_events_is_fused_as_ever():
    recording = static_movie(flash=False)
    machine = anatomy_only(recording, chunk=8)
    images, regions, events = heard(machine)
    plain = jax.tree.map(lambda *x: np.concatenate(x), *(p for _, p in stream(machine, 0, T, Recalibration())))
    assert len(events.frame) == 0 and not regions[1].any()
    np.testing.assert_allclose(images[0], plain.mean, rtol=1e-5)
    np.testing.assert_allclose(images[1], plain.sd, rtol=1e-5)


def test_the_spread_of_a_good_prediction_is_that_of_noise():
    widths = measure_spread(anatomy_only(static_movie(flash=False), chunk=8), np.array([0, 8, 13]))
    assert widths.shape == (3, Y, X)
    assert widths.min() >= 1 and widths.mean() < 1.1
