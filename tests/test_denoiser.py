"""A denoiser: settings resolved from the movie, saved and loaded, refused when damaged."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SMALL, random_denoiser

from udenoise.config import NetworkConfig
from udenoise.denoiser import load_denoiser, predict, resolve, save_denoiser
from udenoise.errors import InputError
from udenoise.network import EDGES, context_windows
from udenoise.recording import Scaling


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "denoiser"
    save_denoiser(random_denoiser(), path, {"steps": [1]})
    return path


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_context_from_the_frame_rate_but_never_longer_than_half_the_movie():
    assert resolve(NetworkConfig(), 10.0, 1000).context == 30
    assert resolve(NetworkConfig(), 10.0, 40).context == 20
    assert resolve(NetworkConfig(context=7), 10.0, 1000).context == 7
    assert resolve(NetworkConfig(context=9999), 10.0, 100_000).context == EDGES[-1] - 1
    assert resolve(NetworkConfig(), None, 1000).context == 30


@pytest.mark.parametrize("context", [0, -3])
def test_no_context_is_an_error(context):
    with pytest.raises(InputError, match="--context"):
        resolve(NetworkConfig(context=context), 10.0, 100)


def test_saving_and_loading_is_exact(saved):
    one, other = random_denoiser(), load_denoiser(saved)
    assert other.config == one.config and other.frame_rate_hz == one.frame_rate_hz and other.photons == one.photons
    assert jax.tree.structure(one.params) == jax.tree.structure(other.params)
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    assert json.loads((saved / "training.json").read_text()) == {"steps": [1]}


def test_saving_replaces_and_leaves_nothing_half_written(tmp_path):
    save_denoiser(random_denoiser(seed=0), tmp_path / "denoiser", {"steps": [1]})
    save_denoiser(random_denoiser(seed=1), tmp_path / "denoiser")
    assert [p.name for p in tmp_path.iterdir()] == ["denoiser"]
    assert not (tmp_path / "denoiser" / "training.json").exists()
    assert_same(load_denoiser(tmp_path / "denoiser"), random_denoiser(seed=1))


def test_an_interrupted_save_leaves_the_old_denoiser(tmp_path, monkeypatch):
    save_denoiser(random_denoiser(seed=0), tmp_path / "denoiser")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("udenoise.denoiser.write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        save_denoiser(random_denoiser(seed=1), tmp_path / "denoiser")
    assert_same(load_denoiser(tmp_path / "denoiser"), random_denoiser(seed=0))


def test_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match="no denoiser.json"):
        load_denoiser(tmp_path)


def damage_settings(path):
    about = json.loads((path / "denoiser.json").read_text())
    about["network"]["misspelt"] = 1
    (path / "denoiser.json").write_text(json.dumps(about))


def damage_shapes(path):
    about = json.loads((path / "denoiser.json").read_text())
    about["network"]["projection"] += 1
    (path / "denoiser.json").write_text(json.dumps(about))


def damage_parameters(path):
    for file in (path / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:10])


@pytest.mark.parametrize("damage", [damage_settings, damage_shapes, damage_parameters])
def test_damage_is_one_clear_line(tmp_path, damage):
    path = tmp_path / "denoiser"
    save_denoiser(random_denoiser(), path)
    damage(path)
    with pytest.raises(InputError) as refused:
        load_denoiser(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_predictions_do_not_depend_on_the_unit_of_counts():
    """Counts times k: gain and σ₀ times k, variances times k²; the whitened prior is the same."""
    rng = np.random.default_rng(0)
    denoiser, K = random_denoiser(), 2 * len(context_windows(SMALL.context))
    averages, mean = rng.uniform(80, 120, (1, K, 16, 24)), rng.uniform(80, 120, (1, 16, 24))
    weights = jnp.full((1, K, 7), 1 / 7)
    priors = []
    for k in (1.0, 64.0):
        scale = Scaling(2.0 * k, 10.0 * k**2, 1.0 * k**2, np.array([100 * k, 20 * k, 14 * k], np.float32))
        run = jax.jit(lambda *seen, scale=scale: predict(denoiser.params, denoiser.config, scale, *seen))
        seen = (jnp.asarray(k * averages, jnp.float32), weights, jnp.asarray(k * mean, jnp.float32))
        priors.append(run(*seen, jnp.ones((1, 16, 24)), jnp.zeros((1, 16, 24, 0))))
    for one, other in zip(*priors, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)


def test_settings_survive_their_file(saved):
    assert replace(load_denoiser(saved).config, context=SMALL.context) == SMALL
