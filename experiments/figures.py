"""Small figures as SVG; matplotlib comes with `pip install '.[experiments]'`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "udenoise"  # the same file every time
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402

Points = tuple[Sequence[float], Sequence[float]]
MARKS = "osv^D<>ph*"


def scatter(
    path: Path,
    points: Mapping[str, Points],
    across: str,
    up: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    both_log: bool = False,
) -> None:
    """Named clouds of points; the x axis is logarithmic."""
    figure, axes = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
    for (name, (x, y)), mark in zip(points.items(), MARKS, strict=False):
        axes.plot(x, np.clip(y, *y_range), mark, label=name, markersize=5, alpha=0.7)
    if both_log:
        axes.plot(x_range, x_range, ":", color="0.5", label="equal gains")
    _finish(figure, axes, path, across, up, x_range, y_range, "log" if both_log else "linear")


def lines(
    path: Path, curves: Mapping[str, Points], across: str, up: str, log: tuple[bool, bool] = (True, False)
) -> None:
    """Named curves."""
    figure, axes = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
    for (name, (x, y)), mark in zip(curves.items(), MARKS, strict=False):
        axes.plot(x, y, "-" + mark, label=name, markersize=4)
    axes.set_xscale("log" if log[0] else "linear")
    _finish(figure, axes, path, across, up, None, None, "log" if log[1] else "linear")


def _finish(figure, axes, path, across, up, x_range, y_range, scale) -> None:
    if x_range:
        axes.set(xlim=x_range, ylim=y_range, xscale="log")
    axes.set(xlabel=across, ylabel=up, yscale=scale)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for axis, used in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if used == "log":
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
