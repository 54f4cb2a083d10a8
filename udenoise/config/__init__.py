"""All settings: frozen dataclasses, one place for each default. Importing this imports no numerics."""

from udenoise.config.methods import (
    DeepInterpolationConfig,
    GaussianConfig,
    MedianConfig,
    Noise2VoidConfig,
    PmdConfig,
    RawConfig,
)
from udenoise.config.plain import (
    from_json,
    to_json,
)
from udenoise.config.program import (
    AnatomyInput,
    Baseline,
    Config,
    DenoiseConfig,
    DropoutLevels,
    FlagConfig,
    Likelihood,
    MovieConfig,
    NetworkConfig,
    TraceConfig,
    TrainConfig,
    Uncertainty,
)
from udenoise.config.simulation import (
    DetectorConfig,
    Indicator,
    NuisanceConfig,
    OpticsConfig,
    PopulationConfig,
    RareConfig,
    SimulationConfig,
    TissueConfig,
)

__all__ = [
    "AnatomyInput",
    "Baseline",
    "Config",
    "DeepInterpolationConfig",
    "DenoiseConfig",
    "DetectorConfig",
    "DropoutLevels",
    "FlagConfig",
    "GaussianConfig",
    "Indicator",
    "Likelihood",
    "MedianConfig",
    "MovieConfig",
    "NetworkConfig",
    "Noise2VoidConfig",
    "NuisanceConfig",
    "OpticsConfig",
    "PmdConfig",
    "PopulationConfig",
    "RareConfig",
    "RawConfig",
    "SimulationConfig",
    "TissueConfig",
    "TraceConfig",
    "TrainConfig",
    "Uncertainty",
    "from_json",
    "to_json",
]
