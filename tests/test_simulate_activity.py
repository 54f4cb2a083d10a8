"""Kinetics against their closed form, firing, the list of events, and what is planted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from udenoise.config import PopulationConfig, RareConfig, SimulationConfig, TissueConfig
from udenoise.errors import InputError
from udenoise.simulate import INDICATORS, plan_simulation, quiet, simulate
from udenoise.simulate.activity import accumulate, fire, respond, saturate, transient, warm_up
from udenoise.simulate.events import matched_filter_snr

SMALL = SimulationConfig(frames=300, height=64, width=64, cells=6, seed=11)
STILL = replace(SMALL, event_rate_hz=0.0, neuropil_activity=0.0)


@pytest.mark.parametrize(("rise", "decay"), [(0.02, 0.2), (0.08, 0.79), (0.004, 0.17), (0.5, 0.1)])
def test_transient_peaks_at_one_where_its_derivative_vanishes(rise, decay):
    """d/dt [(1 − e^(−t/r)) e^(−t/d)] = 0 at t = r ln(1 + d/r)."""
    peak = rise * np.log(1 + decay / rise)
    t = np.array([-1.0, 0.0, peak * 0.99, peak, peak * 1.01])
    value = transient(t, rise, decay)
    assert value[3] == pytest.approx(1, rel=1e-12) and value[:2].tolist() == [0, 0]
    assert value[2] < 1 and value[4] < 1
    late = transient(np.array([20.0, 20.0 + decay]) * max(rise, decay), rise, decay)
    assert late[1] / late[0] == pytest.approx(np.exp(-max(rise, decay)), rel=1e-4)


@pytest.mark.parametrize("name", INDICATORS)
def test_calcium_is_the_sum_of_closed_form_transients(name):
    known, rate = INDICATORS[name], 30.0
    spikes = np.zeros((1, 200), int)
    spikes[0, [20, 31]] = 1, 3
    t = (np.arange(200) + 0.5) / rate
    expected = sum(n * transient(t - f / rate, known.rise_s, known.decay_s) for f, n in ((20, 1), (31, 3)))
    calcium = accumulate(spikes, known.rise_s, np.array([known.decay_s]), rate)
    np.testing.assert_allclose(calcium[0], expected, atol=2e-3)  # transients are cut after eight decays
    assert calcium[0, :20].max() < 1e-12


def test_saturation():
    one, half, ceiling = saturate(np.array([1.0, 7.0, 1e9]), 7.0)
    assert one == pytest.approx(1) and half == pytest.approx(ceiling / 2) and ceiling == pytest.approx(8)


@pytest.mark.parametrize("name", ["GCaMP6f", "OGB-1"])
def test_a_lone_cell_of_the_movie_answers_as_its_indicator(name):
    """Its ΔF/F is the closed form with an amplitude and a decay of its own, within their spread between cells."""
    config = replace(STILL, frames=200, population=PopulationConfig(indicator=name), rare=RareConfig(lone_cells=6))
    known, truth = INDICATORS[name], plan_simulation(config).truth
    lone = truth.events.kind == "lone"
    assert lone.sum() == len(lone) == 6 and (truth.spikes.sum(1) == 3).all()
    amplitude, decay = [], []
    for roi, start in zip(truth.events.roi, truth.events.start, strict=True):
        t = (np.arange(start, 200) - start + 0.5) / 30
        dff = truth.dff[roi, start:].astype(float)

        def error(p, t=t, dff=dff):
            return p[0] * saturate(3 * transient(t, known.rise_s, p[1]), known.half_saturation) - dff

        fit = least_squares(error, (known.spike_dff, known.decay_s), x_scale=(known.spike_dff, known.decay_s))
        assert np.abs(fit.fun).max() < 0.005 * dff.max()
        amplitude.append(fit.x[0] / known.spike_dff)
        decay.append(fit.x[1] / known.decay_s)
    assert abs(np.log(decay)).max() < 4 * 0.15
    assert abs(np.log(amplitude)).max() < 4 * 0.4


def test_rates_bursts_and_assemblies():
    """Mean spikes as set (within 5 standard errors); cells of an assembly fire together, sparse cells one spike at a time."""
    config = replace(SMALL, frames=3000, event_rate_hz=0.2, burst_spikes=4.0)
    lonely = replace(config, population=PopulationConfig(assembly_strength=0.0))
    counts = fire(np.random.default_rng(0), lonely, 400).sum(1)
    seconds = (3000 + warm_up(config)) / 30
    assert abs(counts.mean() - 0.2 * np.exp(0.8**2 / 2) * 4 * seconds) < 5 * counts.std() / np.sqrt(400)

    def common(strength):
        together = replace(config, population=PopulationConfig(assemblies=1, assembly_strength=strength))
        binned = fire(np.random.default_rng(1), together, 60)[:, :3000].reshape(60, -1, 60).sum(2).astype(float)
        return np.corrcoef(binned[binned.std(1) > 0])[np.triu_indices((binned.std(1) > 0).sum(), 1)].mean()

    assert abs(common(0.0)) < 0.03 and common(1.5) > 0.15
    sparse = fire(np.random.default_rng(2), replace(config, population=PopulationConfig(sparse_cells=1.0)), 400).sum(1)
    assert sparse.mean() < counts.mean() / 6


def test_events_are_where_the_spikes_are():
    truth = plan_simulation(replace(SMALL, frames=2000, event_rate_hz=0.3)).truth
    events = truth.events
    assert set(events.kind) == {"spike", "burst"} and (events.place == -1).all()
    assert (events.start <= events.peak).all() and (events.peak < events.stop).all()
    assert (np.diff(events.start) >= 0).all()
    for roi, train in enumerate(truth.spikes):
        own = np.flatnonzero(events.roi == roi)
        covered = np.zeros(len(train), bool)
        for i in own:
            assert train[events.start[i]] > 0
            before = truth.dff[roi, events.start[i] - 1] if events.start[i] else 0
            assert events.amplitude[i] == pytest.approx(truth.dff[roi, events.peak[i]] - before, abs=1e-5)
            covered[events.start[i] : events.stop[i]] = True
        assert covered[train > 0].mean() > 0.9
        assert (events.stop[own][:-1] <= events.start[own][1:]).all()


def test_flashes_and_dendritic_events_are_in_the_clean_movie():
    """At the brightest pixel of its place the light rises by the event's ΔF/F, for its frames, and nowhere else."""
    rare = RareConfig(flashes=4, dendritic_events=3)
    made = simulate(replace(STILL, rare=rare, frames=150))
    events, light = made.events, made.clean - made.offset
    assert sorted(events.kind) == ["dendritic"] * 3 + ["flash"] * 4
    assert made.places.shape == (7, 64, 64)
    np.testing.assert_allclose(made.places.sum((1, 2)), 1, rtol=1e-5)
    rest = light[0]  # nothing is planted in the first twentieth
    lit = (light / rest - 1).reshape(150, -1)
    for kind, place, start, peak, stop, dff in zip(*(events[i] for i in (0, 2, 3, 4, 5, 6)), strict=True):
        pixel = np.argmax(made.places[place] / rest if kind == "flash" else made.places[place])
        others = events.place != place
        alone = not np.any((events.start[others] < stop) & (events.stop[others] > start - 1))
        if alone:
            assert lit[peak, pixel] == pytest.approx(dff, rel=0.02, abs=0.02)
        if kind == "flash":
            assert 1 <= stop - start <= 3
            width = np.sqrt(
                1 / (4 * np.pi * np.sum((made.places[place] / rest / np.sum(made.places[place] / rest)) ** 2))
            )
            assert 1.2 < width < 2.4
    assert np.abs(lit[:5]).max() < 1e-3


def test_decoupled_pairs():
    rare = RareConfig(coupled_pairs=2, decoupled_events=3, lone_cells=1)
    truth = plan_simulation(replace(SMALL, frames=1500, event_rate_hz=0.15, rare=rare)).truth
    events = truth.events
    apart = np.flatnonzero(events.kind == "decoupled")
    assert len(apart) == 3 and (events.kind == "lone").sum() == 1
    assert truth.spikes[5].sum() == 3
    for i in apart:
        roi, frames = events.roi[i], slice(events.start[i], events.start[i] + 5)
        assert truth.spikes[roi, frames].sum() >= 3 and truth.spikes[roi ^ 1, frames].sum() == 0
    differ = [(np.abs(truth.spikes[a] - truth.spikes[a + 1])).sum() for a in (0, 2)]
    assert sum(differ) == 3 * rare.planted_spikes and truth.spikes[:4].sum() > 40


def test_snr_is_that_of_the_matched_filter():
    """Empirically: the filter's rise over its spread in still frames, within 5 standard errors of the spread."""
    config = replace(STILL, frames=600, rare=RareConfig(flashes=1, planted_spread=0.0), photons=4.0)
    made = simulate(config)
    start, stop = made.events.start[0], made.events.stop[0]
    signal = made.clean[start].astype(float) - made.clean[0]
    weights = signal / (made.gain * made.clean[0] + made.intercept)
    still = np.delete(np.arange(600), np.arange(start, stop))
    spread = np.std(np.tensordot(made.movie[still].astype(float), weights, 2))
    empirical = np.sum(signal * weights) * np.sqrt(stop - start) / spread
    assert made.events.snr[0] == pytest.approx(empirical, rel=5 / np.sqrt(2 * len(still)))
    assert matched_filter_snr(np.array([3.0, 4.0]), np.array([1.0, 4.0]), np.array([1.0, 2.0])) == pytest.approx(
        np.sqrt((9 + 4) * 5)
    )


def test_waves_are_slow_and_local():
    tissue = TissueConfig(astrocytes=2, wave_rate_hz=0.5)
    made = simulate(replace(STILL, tissue=tissue, frames=300))
    events = made.events
    assert len(events.kind) > 2 and set(events.kind) == {"wave"} and set(events.place) <= {0, 1}
    assert np.median(events.peak - events.start) / 30 > 0.8
    swing = np.ptp(made.clean, axis=0) / made.clean.mean(0)
    assert swing[made.places.max(0) > 0.3 * made.places.max()].min() > 5 * np.quantile(swing, 0.05)


def test_quiet_is_the_same_field_without_activity():
    busy = replace(SMALL, rare=RareConfig(flashes=3), tissue=TissueConfig(astrocytes=1))
    null, made = simulate(quiet(busy), 100), simulate(busy)
    assert np.ptp(null.clean, axis=0).max() < 1e-3 * null.clean.max()
    assert not null.spikes.any() and not len(null.events.kind)
    assert np.corrcoef(null.clean[0].ravel(), np.quantile(made.clean, 0.1, axis=0).ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("rare", "word"),
    [
        (RareConfig(coupled_pairs=3, lone_cells=1), "6 cells cannot hold"),
        (RareConfig(decoupled_events=1), "--coupled-pairs"),
        (RareConfig(flashes=-1), "flashes is -1"),
    ],
)
def test_contradictions_are_one_line_errors(rare, word):
    with pytest.raises(InputError, match=word) as error:
        plan_simulation(replace(SMALL, rare=rare))
    assert "\n" not in str(error.value)


def test_no_neurite_for_a_dendritic_event():
    bare = replace(SMALL, tissue=TissueConfig(processes=0.0), rare=RareConfig(dendritic_events=1))
    with pytest.raises(InputError, match="--processes"):
        plan_simulation(bare)


def test_no_cells_no_response():
    none = np.zeros((0, 300 + warm_up(SMALL)), int)
    assert respond(np.random.default_rng(0), SMALL, none).dff.shape == (0, 300)
