"""The thermal feature network: trained on simulated scenes, its weights are part of the package."""

from lit_thermal.thermal_features.network import (
    WEIGHTS,
    WIDTHS,
    FrozenFeatures,
    ThermalFeatureNetwork,
    feature_distance,
    thermal_features,
)

__all__ = [
    "WEIGHTS",
    "WIDTHS",
    "FrozenFeatures",
    "ThermalFeatureNetwork",
    "feature_distance",
    "thermal_features",
]
