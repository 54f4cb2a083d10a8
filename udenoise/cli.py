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
class Flags:
    """Where not to believe a run: judge its events again, at another false discovery rate."""

    run: Positional[Path]
    """A finished run."""
    fdr: float | None = None
    """Expected share of chance among the flagged events; by default the run's own."""

    def __call__(self) -> None:
        from udenoise.pipeline import flag

        found = flag(self.run, self.fdr)
        print(f"{len(found)} flags: {self.run / 'flags.csv'}")
        _done(self.run)


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
class AuditSplit:
    """Halve a movie's noise: input.tif for any denoiser, judge.tif to judge the result by."""

    movie: Positional[str]
    """As for run."""
    output: Output
    """The folder of the halves."""
    seed: int = 0
    """Seed of the noise that is added."""
    config: Flat[MovieConfig] = field(default_factory=MovieConfig)

    def __call__(self) -> None:
        from udenoise.audit import split

        folder = split(self.movie, self.output, self.seed, self.config)
        print(f"Denoise {folder / 'input.tif'} with any program, then: udenoise audit score {folder} DENOISED")


@dataclass(frozen=True)
class AuditScore:
    """Judge what a program made of HALF/input.tif, by the half that it has not seen."""

    folder: Positional[Path]
    """What audit split wrote."""
    denoised: Positional[str]
    """The denoised movie: any file that run reads, in counts of input.tif."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Where the audit goes; by default score in the folder of the halves."""
    rois: str | None = None
    """As for run; without them tiles of 12 pixels stand for somata."""
    sd: str | None = None
    """A movie of the stated standard deviation, to be judged too."""
    missing_ends: tuple[int, int] = (0, 0)
    """Frames that the denoised movie lacks at its start and end: 30 30 for DeepInterpolation."""
    match: bool = False
    """Lay its mean image on that of the input first, where a program rescales or subtracts a mean."""
    fdr: float = 0.05
    """Share of chance among the swallowed and invented events listed; 0 leaves the search out."""

    def __call__(self) -> None:
        from udenoise.audit import score

        out = score(
            self.folder, self.denoised, self.output, self.rois, self.sd, self.missing_ends, self.match, self.fdr
        )
        print(f"Audit: {out / 'audit.html'}")


@dataclass(frozen=True)
class AuditQuick:
    """Judge a finished denoised movie by its raw movie, as far as that goes."""

    raw: Positional[str]
    """The raw movie, as for run."""
    denoised: Positional[str]
    """What a program made of it, in its counts."""
    output: Output
    """The folder of the audit."""
    rois: str | None = None
    """As for audit score."""
    sd: str | None = None
    """As for audit score."""
    missing_ends: tuple[int, int] = (0, 0)
    """As for audit score."""
    match: bool = False
    """As for audit score."""
    fdr: float = 0.05
    """As for audit score."""
    config: Flat[MovieConfig] = field(default_factory=MovieConfig)

    def __call__(self) -> None:
        from udenoise.audit import quick

        out = quick(
            self.raw,
            self.denoised,
            self.output,
            self.rois,
            self.sd,
            self.missing_ends,
            self.match,
            self.fdr,
            self.config,
        )
        print(f"Audit: {out / 'audit.html'}")


@dataclass(frozen=True)
class Audit:
    """Judge a movie that any other program denoised."""

    what: (
        Annotated[AuditSplit, subcommand("split")]
        | Annotated[AuditScore, subcommand("score")]
        | Annotated[AuditQuick, subcommand("quick")]
    )

    def __call__(self) -> None:
        self.what()


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
class Null:
    """Denoise a movie of a run's mean image and noise in which nothing happens, and say what appears in it."""

    run: Positional[Path]
    """A finished run; what is found is told in its report."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The folder; by default RUN-null beside the run."""
    frames: int | None = None
    """Frames of the movie; by default as many as the recording has, at most 3000."""
    seed: int = 0
    """Seed of its noise."""
    suite2p: Path | None = None
    """Python of an environment that has Suite2p, to look for cells; by default this one, where it has it."""
    overwrite: bool = False
    """Start anew where the folder holds a null control."""

    def __call__(self) -> None:
        from udenoise.null import null

        null(self.run, self.output, self.frames, self.seed, self.suite2p, self.overwrite)


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
    | Annotated[Flags, subcommand("flags")]
    | Annotated[Null, subcommand("null")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Flat[Audit], subcommand("audit")]
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
