"""`udenoise noise`: the noise model as a table, and its photon-transfer curve as a page."""

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table

from udenoise.config import MovieConfig
from udenoise.errors import InputError
from udenoise.files import whole_file
from udenoise.io import Movie, open_movie
from udenoise.noise import NoiseModel, estimate_noise, save_noise
from udenoise.progress import progress_bar


def show_noise(source: str, output: Path, config: MovieConfig) -> NoiseModel:
    """Estimate, print, and write `output` (an HTML page) and the numbers beside it (.json)."""
    if output.suffix != ".html" or output.is_dir():
        raise InputError(f"{output} is no page; give a file that ends in .html: -o noise.html")
    if not output.parent.is_dir():
        raise InputError(
            f"{output.parent} does not exist; make it, or give a file in a folder that does: -o noise.html"
        )
    movie = open_movie(source, config)
    with progress_bar("noise", len(movie)) as bar:
        noise = estimate_noise(movie, bar)
    save_noise(noise, output.with_suffix(".json"))
    with whole_file(output) as part:
        figure(noise, movie).write_html(part, include_plotlyjs=True)
    print_noise(noise, movie)
    Console().print(f"Plot: {output}   Numbers: {output.with_suffix('.json')}")
    return noise


def print_noise(noise: NoiseModel, movie: Movie) -> None:
    """The noise model as a table, warnings below."""
    middle = len(noise.kernel) // 2
    rows = {
        "movie (T Y X)": " × ".join(map(str, movie.shape)) + f", {movie.dtype}",
        "frame rate": f"{movie.frame_rate_hz:g} Hz" if movie.frame_rate_hz else "not in the file: --frame-rate-hz",
        "gain × excess noise": f"{noise.gain:.4g} counts per photon",
        "intercept": f"{noise.intercept:.4g} counts²",
        "dark level if read noise is small": f"{-noise.intercept / noise.gain:.4g} counts"
        if noise.gain > 0
        else "unknown",
        "third moment of a photon's counts": f"{noise.pulse_spread:.2f} (1 if all are equal, 1.5 if exponentially distributed)",
        "photons per pixel and frame": f"{noise.photons:.3g} (median)",
        "noise correlation along x, y": f"{noise.kernel[middle, middle + 1]:.3f}, {noise.kernel[middle + 1, middle]:.3f}",
        "difference lag-1 (white −0.5)": f"{noise.difference_lag1:.3f}",
        "dropped rows, frames": f"{len(noise.bad_rows)}, {noise.bad_frames.size}",
        "trial breaks": ", ".join(map(str, noise.breaks)) or "none",
        "clipped, saturated": f"{100 * noise.clipped_fraction:.3g} %, {100 * noise.saturated_fraction:.3g} %",
        "ramp": f"{100 * noise.ramp:+.0f} %",
    }
    table = Table(show_header=False, title="Noise", title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console()
    console.print(table)
    for warning in noise.warnings:
        console.print(f"[yellow]warning[/yellow] {warning}", highlight=False)


def figure(noise: NoiseModel, movie: Movie) -> go.Figure:
    """Photon-transfer curve, noise correlation, brightness over time."""
    titles = "Photon transfer", "Noise correlation ρ(dy, dx)", "Mean of each frame"
    page = make_subplots(1, 3, subplot_titles=titles, column_widths=[0.4, 0.25, 0.35])
    line = np.array([noise.bin_mean.min(), noise.bin_mean.max()])
    page.add_scatter(x=noise.bin_mean, y=noise.bin_variance, mode="markers", name="groups of pixels", row=1, col=1)
    label = f"{noise.gain:.4g} · mean {noise.intercept:+.4g}"
    page.add_scatter(x=line, y=noise.gain * line + noise.intercept, mode="lines", name=label, row=1, col=1)
    reach = np.arange(len(noise.kernel)) - len(noise.kernel) // 2
    shown = noise.kernel - np.where(noise.kernel == 1, np.nan, 0)
    page.add_heatmap(z=shown, x=reach, y=reach, colorscale="RdBu", zmid=0, showscale=False, row=1, col=2)
    page.add_scatter(y=noise.frame_mean, mode="lines", name="frame mean", showlegend=False, row=1, col=3)
    for frame in noise.breaks:
        page.add_vline(x=int(frame), line_dash="dash", row=1, col=3)
    page.update_xaxes(title="mean (counts)", row=1, col=1).update_yaxes(title="noise variance (counts²)", row=1, col=1)
    page.update_xaxes(title="frame", row=1, col=3).update_yaxes(title="counts", row=1, col=3)
    return page.update_layout(
        title=f"Noise of {movie.source}", template="plotly_white", height=460, legend_x=0.01, legend_y=0.99
    )
