"""Events that no neighbour foretold: amplitudes, error bars and false alarms against what was put in."""

import jax
import numpy as np
import pytest
from helpers import correlated
from scipy import stats

from udenoise import innovation
from udenoise.innovation import AFTER, BEFORE, Events, Residual, render, render_variance, spot, spread
from udenoise.sampling import colour, spectrum_of

SHAPE = (24, 40, 40)
WHITE = np.ones((1, 1))


def noise(seed, photons=2.0, gain=100.0, shape=SHAPE):
    """Residuals of photon noise, with their variance and third cumulant."""
    counts = gain * np.random.default_rng(seed).poisson(photons, shape)
    return Residual((counts - gain * photons).astype(np.float32), np.full(shape, gain**2 * photons, np.float32),
                    np.full(shape, gain, np.float32))  # fmt: skip


def widths(residual, kernel=WHITE):
    return spread(innovation.add_spread(innovation.start_spread(residual.value.shape[1:]), residual), kernel)


def look(residual, spreads) -> Events:
    """All events of some frames."""
    return innovation.search(residual, jax.tree.map(np.asarray, innovation.match(residual)), spreads)


def one_event(frame=10, y=20, x=13, sigma=1.8, duration=2, amplitude=700.0):
    return Events(*(np.array([v]) for v in (frame, y, x, sigma, duration, amplitude, 1.0, 9.0)))


@pytest.mark.parametrize("photons", [0.05, 0.1, 1.0, 8.0])
def test_nothing_is_found_where_nothing_is(photons):
    residual = noise(0, photons, shape=(60, 64, 64))
    assert len(look(residual, widths(residual)).frame) == 0


@pytest.mark.parametrize("photons", [0.1, 1.0, 8.0])
def test_scores_of_skewed_counts_are_normal_far_out(photons):
    """Without the correction a z of 4.5 comes several times too often in dim movies."""
    residual = noise(1, photons, shape=(150, 100, 100))
    ones, matched = np.ones((3, 100, 100), np.float32), innovation.match(residual)
    largest, template = (np.asarray(part)[:-2] for part in innovation._best(matched, ones))
    everywhere = np.nonzero(np.ones(template.shape, bool))
    score = innovation._events(everywhere, template[everywhere], jax.tree.map(np.asarray, matched), ones).z
    few = stats.norm.isf(1e-4)
    assert np.mean(score > few) / 1e-4 < 9 * 1.2  # hardly more alarms than nine independent templates
    assert photons > 1 or np.mean(largest > few) / 1e-4 > 12
    one = innovation.normal_score(*_alone(residual, 1.8))
    assert np.mean(one > few) / 1e-4 == pytest.approx(1, abs=0.45)


def _alone(residual, sigma):
    heard, power, third = (
        part[innovation.SIGMAS_PX.index(sigma)] for part in jax.tree.map(np.asarray, innovation.match(residual))
    )
    return heard / np.sqrt(power), third / np.asarray(power) ** 1.5


def test_amplitude_is_the_least_squares_one():
    """Against the explicit sum over the template, with a variance that differs between pixels and a masked row."""
    rng = np.random.default_rng(2)
    residual = noise(3)
    variance = residual.variance * rng.uniform(0.5, 2, SHAPE).astype(np.float32)
    variance[:, 17] = np.inf
    planted = one_event(amplitude=4000.0)
    residual = residual._replace(value=residual.value + render(planted, SHAPE), variance=variance)
    ones = np.ones((3, *SHAPE[1:]), np.float32)
    found = look(residual, ones)
    assert (found.frame[0], found.y[0], found.x[0], found.duration[0]) == (10, 20, 13, 2)
    k = render(found._replace(amplitude=np.eye(1, len(found.frame))[0]), SHAPE)
    precision = 1 / variance
    expected = (k * residual.value * precision).sum() / (k**2 * precision).sum()
    assert found.amplitude[0] == pytest.approx(expected, rel=1e-4)
    power = (k**2 * precision).sum()
    own = (k**3 * precision**2 * residual.gain).sum() * expected  # the event's own shot noise
    assert found.amplitude_sd[0] == pytest.approx(np.sqrt(power + own) / power, rel=1e-4)


@pytest.mark.parametrize("lost", [slice(0, 5), slice(14, 16)])
def test_an_event_next_to_frames_without_measurement_is_told_once(lost):
    """Longer templates that reach into the gap measure the very same: taken out once each, the amplitude would grow without end."""
    residual, planted = noise(11), one_event(frame=5, duration=1, amplitude=2000.0)
    planted = planted._replace(frame=planted.frame if lost.start == 0 else np.array([16]))
    variance = residual.variance.copy()
    variance[lost] = np.inf
    residual = residual._replace(value=residual.value + render(planted, SHAPE), variance=variance)
    found = look(residual, np.ones((3, *SHAPE[1:]), np.float32))
    assert (len(found.frame), found.frame[0], found.duration[0]) == (1, planted.frame[0], 1)
    assert found.amplitude[0] == pytest.approx(2000, rel=0.3)


@pytest.mark.parametrize("amplitude", [900.0, -350.0])
def test_amplitudes_are_as_uncertain_as_stated(amplitude):
    """What is put back of equal events, brighter or darker, scatters about the truth as stated (projected on the true spot)."""
    true, base, z = render(one_event(amplitude=1.0), SHAPE), noise(0, photons=4.0), []
    for seed in range(40):
        counts = 100.0 * np.random.default_rng(seed).poisson((400 + amplitude * true) / 100)
        found = look(base._replace(value=(counts - 400).astype(np.float32)), np.ones((3, *SHAPE[1:]), np.float32))
        z.append(((render(found, SHAPE) * true).sum() / (true**2).sum() - amplitude) / found.amplitude_sd[0])
    assert np.mean(z) == pytest.approx(0, abs=0.5)
    assert 0.6 < np.std(z) < 1.4


def test_two_events_at_a_distance_are_both_found():
    both = Events(*(np.concatenate(p) for p in zip(one_event(), one_event(frame=12, y=30, x=30, sigma=2.4, duration=1),
                                                   strict=True)))  # fmt: skip
    both = both._replace(amplitude=np.array([1500.0, 1500.0]))
    residual = noise(5)
    found = look(residual._replace(value=residual.value + render(both, SHAPE)), widths(residual))
    assert {(10, 20), (12, 30)} <= {(int(t), int(y)) for t, y in zip(found.frame, found.y, strict=True)}


def test_correlated_noise_widens_the_scores():
    """The spread is what the noise's correlation makes of a spot, and no event is found in it."""
    kernel, random = correlated(0.3), np.random.default_rng(6)
    spectrum = spectrum_of(kernel, (64, 64))
    value = np.stack([colour(random.standard_normal((64, 64), np.float32), spectrum) for _ in range(80)])
    value = value.astype(np.float32)
    residual = Residual(value, np.ones_like(value), np.full_like(value, 1e-6))
    found = widths(residual, kernel)
    expected = [1 + 0.6 * np.exp(-1 / (4 * sigma**2)) for sigma in innovation.SIGMAS_PX]
    assert found[:, 16:48, 16:48].mean((1, 2)) ** 2 == pytest.approx(expected, rel=0.05)
    assert len(look(residual, found).frame) == 0


def test_events_do_not_widen_the_spread():
    residual = noise(7, shape=(80, 40, 40))
    bright = residual._replace(value=residual.value + render(one_event(amplitude=20000.0), (80, 40, 40)))
    assert widths(bright).max() < 1.15 and widths(residual).max() < 1.15


def test_rendering_at_the_edges_and_in_regions():
    event = one_event(frame=-1, y=0, x=39, duration=3, amplitude=2.0)._replace(amplitude_sd=np.array([0.5]))
    image = render(event, SHAPE)
    assert image[0, 0, 39] == 2.0 and image[1, 0, 39] == 2.0 and not image[2:].any()
    assert render_variance(event, SHAPE)[1, 0, 38] == pytest.approx((0.5 * spot(1.8)[8, 7]) ** 2)
    index, weight = np.array([[[39, 38]]]), np.array([[[0.75, 0.25]]])
    added, variance = innovation.in_regions(event, index, weight, SHAPE)
    assert added[:, 0, 0] == pytest.approx(image.reshape(24, -1)[:, [39, 38]] @ [0.75, 0.25])
    assert np.sqrt(variance[0, 0, 0]) == pytest.approx(added[0, 0, 0] / 4)


def test_the_margin_is_enough():
    """A search of a longer stretch finds the same events in the frames asked for."""
    residual = noise(8, shape=(40, 40, 40))
    events = [one_event(frame=t, y=y, x=20, amplitude=1500.0) for t, y in ((12, 8), (15, 20), (19, 33), (27, 12))]
    value = residual.value + sum(render(e, residual.value.shape) for e in events)
    residual = residual._replace(value=value)
    ones = np.ones((3, 40, 40), np.float32)
    cut = Residual(*(part[14 - BEFORE : 20 + AFTER] for part in residual))
    whole, part = look(residual, ones), innovation.shifted(look(cut, ones), 14 - BEFORE)
    inside = [{(t, y, x, s) for t, y, x, s in zip(*e[:4], strict=True) if 14 <= t < 20} for e in (whole, part)]
    assert inside[0] == inside[1] and len(inside[0]) >= 2
