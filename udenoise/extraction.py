"""From what was measured in ROIs and what the blind prediction says of them to traces with corridors (the run's last sums)."""

from typing import Any

import jax
import numpy as np

from udenoise import inference, roi_error, roi_posterior, sampling, surprise
from udenoise import traces as tracing
from udenoise.draws import TracePosterior
from udenoise.flagging import Residuals
from udenoise.io import Rois
from udenoise.io.store import read_json, write_json
from udenoise.posterior import Recalibration, Region
from udenoise.progress import progress_bar
from udenoise.recording import Recording, segments
from udenoise.regions import locate, nearness, neuropil_rings, share_noise
from udenoise.results import save_rois_npz, save_traces, write_csv
from udenoise.roi_posterior import Added, with_added
from udenoise.runfolder import Run

RESPONSE_FRAMES = 384
LONGEST_LAG = 40


def parts(job: Run) -> tuple[Rois, ...]:
    """What is averaged over: the ROIs, and their rings where neuropil is subtracted."""
    return (job.rois, neuropil_rings(job.rois)) if job.config.trace.neuropil_coefficient > 0 else (job.rois,)


def respond(
    job: Run,
    recording: Recording,
    machine: inference.Inference,
    by: Recalibration,
    moments: Region,
) -> roi_posterior.Response:
    """How the blind traces of up to 384 frames answer fresh noise."""
    T, noise = len(recording.movie), recording.noise
    sigma = np.sqrt(noise.pixel_variance(recording.anatomy.mean)).astype(np.float32)
    start = max((T - RESPONSE_FRAMES) // 2, 0)
    stop, noisier = min(start + RESPONSE_FRAMES, T), []

    def add_noise(first: int, frames: np.ndarray) -> np.ndarray:
        wide = np.broadcast_to(sigma, frames.shape)
        return sampling.split_noise(frames, wide, noise.kernel, first + T, job.config.seed)[0]

    with progress_bar("memory", stop - start, job.quiet) as bar:
        for first, result in inference.stream(machine, start, stop, by, add_noise):
            noisier.append(result.regions)
            bar(first + len(result.mean) - start)
    plain = jax.tree.map(lambda part: part[start:stop], moments)
    noisy = jax.tree.map(lambda *parts: np.concatenate(parts), *noisier)
    return roi_posterior.Response(start, np.nan_to_num(noisy.raw - plain.raw), noisy.mean - plain.mean)


def _memory(job: Run, left: np.ndarray, share: float) -> sampling.Memory:
    """How long the errors last: `share` of their variance as noise passes on, the rest without noise of a single frame."""
    value, doubt = sampling.autocorrelation(left[:, 0].T, min(LONGEST_LAG, len(left) // 3))
    noise = sampling.fit_memory(value, doubt)
    memory = noise._replace(weight=1 - share * (1 - noise.weight))
    write_json(job.folder / "memory.json", {"memory": memory._asdict(), "measured": value, "measured_se": doubt})
    return memory


def extract(
    job: Run,
    recording: Recording,
    moments: Region,
    added: Added | None,
    response: roi_posterior.Response,
    given: str = "mean",
) -> Residuals:
    """Traces with corridors from the regions' moments, written to the run folder; and what the flags want of them.

    `given`: the anatomy that the network was given.
    """
    trials = segments(recording)
    improved, response = roi_posterior.improve(moments, response, trials)
    noisier = roi_posterior.weigh_noise(improved, response, trials)
    improved = improved._replace(noise_variance=improved.noise_variance * noisier[:, None])
    usual = roi_error.usual_error(improved, response.fresh, response.left)
    calibration = roi_error.calibrate_rois(improved, moments, trials, usual)
    fused = roi_posterior.fuse_regions(improved, calibration)
    left = roi_posterior.left_after_fusion(improved, calibration, response)
    memory = _memory(job, left, roi_posterior.share_of_noise(improved, fused, response, left))
    lags = roi_posterior.error_by_lags(improved, fused, response._replace(left=left), trials)
    surprises = surprise.find_surprises(improved, calibration)
    fused = roi_posterior.add_events(surprise.fuse_surprised(improved, calibration, surprises, fused), added)
    sd = np.sqrt(fused.covariance[:, :, 0, 0])
    still = _still(improved, moments.raw, given)
    fused = fused._replace(covariance=fused.covariance + np.eye(len(still)) * still.T[:, :, None])
    places = locate(job.rois)
    apart = np.stack([~share_noise(part, recording.noise.kernel) for part in parts(job)])
    together = roi_error.measure_together(improved, calibration.variance, nearness(places), apart)
    known = TracePosterior(fused.mean, fused.covariance, memory, together, places, still)
    raw, rate, trace = with_added(moments, added).raw, job.movie.frame_rate_hz, job.config.trace
    with progress_bar("traces", len(job.rois.names), job.quiet) as bar:
        result = tracing.make_traces(raw, known, trace, rate, job.config.seed, bar)
    about = read_json(job.folder / "calibration.json")
    roi = _about(calibration, improved) | {"noise_factor": float(noisier[0]), "lags": _by_lag(lags, memory)}
    roi |= {"surprise_rate": surprises.rate, "surprise_size": surprises.size}
    write_json(job.folder / "calibration.json", about | {"roi": roi, "memory": memory._asdict()})
    save_rois_npz(job.folder / "rois.npz", job.rois)
    save_traces(job.folder / "traces.zarr", result, known, job.rois.names, rate, trace.save_covariance)
    write_csv(job.folder / "traces.csv", result, job.rois.names, rate)
    return Residuals((raw - fused.mean)[:, 0].T, improved.noise_variance[:, 0].T, sd.T)


def _still(moments: Region, raw: np.ndarray, given: str) -> np.ndarray:
    """Variance of the mean of each region's raw trace (K N, counts²), about which its other frames are told."""
    frames = np.maximum(np.isfinite(raw).sum(0), 1)
    return np.zeros(raw.shape[1:]) if given == "none" else np.nanmean(moments.noise_variance, axis=0) / frames


def _by_lag(lags: roi_posterior.Lags, memory: sampling.Memory) -> dict[str, np.ndarray]:
    return {
        "lag": lags.lag,
        "predicted": memory.at(lags.lag.astype(float)),
        "measured": lags.measured,
        "se": lags.measured_se,
    }


def _about(calibration: roi_error.RoiCalibration, moments: Region) -> dict[str, Any]:
    """What the report says of the calibration of ROIs; the groups of frames, and the causes by name."""
    roi = {name: getattr(calibration, name)[0] for name in ("predicted", "measured", "measured_se", "factor")}
    roi |= {"stated": calibration.variance[:, 0].mean(0), "noise": moments.noise_variance[:, 0].mean(0)}
    causes = dict(zip(roi_error.CAUSES, calibration.shares[0].tolist(), strict=True))
    groups = {name: part[0] for name, part in calibration.groups._asdict().items()}
    return roi | {"causes": causes, "groups": groups, "ring_correlation": float(calibration.correlation[0, -1])}
