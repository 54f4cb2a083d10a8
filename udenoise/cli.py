"""The command line: one subcommand a stage, flags from the settings' dataclasses. `--help` imports no numerics."""

import errno
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg, subcommand

from udenoise.config import Config, MovieConfig, SimulationConfig, TraceConfig
from udenoise.errors import InputError

Output = Annotated[Path, arg(aliases=["-o"])]
Flat = OmitArgPrefixes


@dataclass(frozen=True)
class Run:
    """Movie in; denoised movie with standard deviation, ΔF/F traces with corridors, and a report out."""

    movie: Positional[str]
    """TIFF (file, folder or glob), HDF5 (movie.h5:/data), Zarr, OME-Zarr or .npy."""
    output: Output
    """The run folder."""
    rois: str | None = None
    """ImageJ .roi or RoiSet.zip, Suite2p plane folder, label image, weight array, or Neurofinder JSON."""
    config: Flat[Config] = field(default_factory=Config)
    init_from: Path | None = None
    """Fine-tune the denoiser of another run (RUN/denoiser)."""
    overwrite: bool = False
    """Start anew where the folder holds a run."""

    def __call__(self) -> None:
        from udenoise.pipeline import run

        _done(run(self.movie, self.output, self.rois, self.config, self.overwrite, self.init_from))


@dataclass(frozen=True)
class Train:
    """Train a denoiser on a movie; nothing else."""

    movie: Positional[str]
    """As for run."""
    output: Output
    """The run folder."""
    config: Flat[Config] = field(default_factory=Config)
    init_from: Path | None = None
    """Fine-tune the denoiser of another run (RUN/denoiser)."""
    overwrite: bool = False
    """Start anew where the folder holds a run."""

    def __call__(self) -> None:
        from udenoise.pipeline import train

        print(f"Denoiser: {train(self.movie, self.output, self.config, self.overwrite, self.init_from) / 'denoiser'}")


@dataclass(frozen=True)
class Denoise:
    """Apply a denoiser that is already trained; otherwise like run."""

    movie: Positional[str]
    """As for run."""
    denoiser: Path
    """RUN/denoiser of the run that trained it."""
    output: Output
    """The run folder."""
    rois: str | None = None
    """As for run."""
    config: Flat[Config] = field(default_factory=Config)
    overwrite: bool = False
    """Start anew where the folder holds a run."""

    def __call__(self) -> None:
        from udenoise.pipeline import denoise

        _done(denoise(self.movie, self.output, self.denoiser, self.config, self.rois, self.overwrite))


@dataclass(frozen=True)
class Traces:
    """Traces of other ROIs from a finished run; the denoised movie is not written again."""

    run: Positional[Path]
    """A finished run."""
    rois: str
    """As for run."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Another folder for the traces and their report; by default those of the run are replaced."""
    trace: Flat[TraceConfig] = field(default_factory=TraceConfig)
    overwrite: bool = False
    """Start anew where the other folder holds a run."""

    def __call__(self) -> None:
        from udenoise.pipeline import traces

        _done(traces(self.run, self.rois, self.output, self.trace, self.overwrite))


@dataclass(frozen=True)
class Report:
    """Write the report of a run again."""

    run: Positional[Path]
    """A run folder."""

    def __call__(self) -> None:
        from udenoise.pipeline import report

        _done(report(self.run))


@dataclass(frozen=True)
class Noise:
    """Measure and print a movie's noise, and plot its photon-transfer curve."""

    movie: Positional[str]
    """As for run."""
    output: Annotated[Path, arg(aliases=["-o"])] = Path("noise.html")
    """Where the plot goes; the numbers go beside it as .json."""
    config: Flat[MovieConfig] = field(default_factory=MovieConfig)

    def __call__(self) -> None:
        from udenoise.photon_transfer import show_noise

        show_noise(self.movie, self.output, self.config)


@dataclass(frozen=True)
class Simulate:
    """Write a movie whose truth is known: movie.tif, clean.tif, rois.npy, truth.npz."""

    output: Output
    """The folder."""
    simulation: Flat[SimulationConfig] = field(default_factory=SimulationConfig)

    def __call__(self) -> None:
        from udenoise.simulate import write_simulation

        print(f"Simulation: {write_simulation(self.simulation, self.output)}")


@dataclass(frozen=True)
class Demo:
    """Simulate a movie, run the whole job on it, and say how close it came to the truth."""

    output: Annotated[Path, arg(aliases=["-o"])] = Path("udenoise-demo")
    """The folder."""
    seed: int = 1
    """Seed of everything random."""
    overwrite: bool = False
    """Start anew where the folder holds a run."""

    def __call__(self) -> None:
        from udenoise.demonstration import demo

        demo(self.output, self.seed, self.overwrite)


Command = (
    Annotated[Run, subcommand("run")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Noise, subcommand("noise")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Denoise, subcommand("denoise")]
    | Annotated[Traces, subcommand("traces")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Simulate, subcommand("simulate")]
)


def main(arguments: list[str] | None = None) -> None:
    """Parse, do, and turn an input error into one line and exit status 2."""
    command = tyro.cli(
        Command,
        prog="udenoise",
        description="Denoise calcium-imaging movies with error bars that are true.",
        args=arguments,
    )
    try:
        command()
    except InputError as error:
        print(f"udenoise: {error}", file=sys.stderr)
        sys.exit(2)
    except (OSError, ValueError) as error:
        if not _disk_is_full(error):
            raise
        reason = " ".join(str(error).split())[:200]
        print(f"udenoise: the disk is full ({reason}); free some space and run the same command again", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("udenoise: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _disk_is_full(error: Exception) -> bool:
    # Orbax and tensorstore wrap the system's error in a ValueError
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)


def _done(folder: Path) -> None:
    print(f"Report: {folder / 'report.html'}")
