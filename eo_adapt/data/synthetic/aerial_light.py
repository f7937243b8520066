"""From made-up land to counts of a camera: spectra by season, shade, haze, gain, gamma, blur, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .aerial_departments import Grain, Light
from .aerial_land import MATERIALS, Land, shadows

GSD = 0.2  # metres
ELEVATION_STEP = 0.2  # metres a count, as in FLAIR#1
# material -> reflectance of R, G, B, NIR; green, then dry
SPECTRA = {
    "soil": ((0.170, 0.140, 0.110, 0.230), (0.260, 0.155, 0.085, 0.310)),  # grey, then red
    "grass": ((0.070, 0.120, 0.055, 0.420), (0.225, 0.195, 0.120, 0.330)),
    "crop": ((0.055, 0.095, 0.040, 0.470), (0.290, 0.235, 0.130, 0.370)),
    "vine": ((0.060, 0.090, 0.045, 0.340), (0.085, 0.095, 0.050, 0.300)),
    "tree": ((0.045, 0.075, 0.035, 0.380), (0.090, 0.090, 0.045, 0.310)),
    "asphalt": ((0.135, 0.135, 0.135, 0.150), (0.135, 0.135, 0.135, 0.150)),
    "tile": ((0.290, 0.165, 0.110, 0.330), (0.290, 0.165, 0.110, 0.330)),
    "slate": ((0.125, 0.130, 0.145, 0.155), (0.125, 0.130, 0.145, 0.155)),
    "water": ((0.045, 0.065, 0.060, 0.030), (0.075, 0.085, 0.060, 0.045)),
}
SHADE = np.array([0.36, 0.40, 0.47, 0.33], np.float32)  # light from the sky alone
HAZE = np.array([0.55, 0.75, 1.00, 0.35], np.float32)  # share of the haze in blue
AIRLIGHT = 0.30
EXPOSURE = 1.8


@dataclass(frozen=True)
class Camera:
    """What turns reflectance into counts besides the light of a department.

    Attributes:
        gain: Factor of R, G, B, NIR.
        gamma: Added to the department's exponent.
    """

    gain: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    gamma: float = 0.0


def reflectance(land: Land, light: Light) -> npt.NDArray[np.float32]:
    """(4, N, N) reflectance of R, G, B, NIR in sun and shade, at the season and on the soil of a department."""
    spectra = np.array([SPECTRA[name] for name in MATERIALS], np.float32)  # (M, 2, 4)
    dry = np.full((len(MATERIALS), 1), light.dry, np.float32)
    dry[MATERIALS.index("soil")] = light.red_soil
    now = spectra[:, 0] + dry * (spectra[:, 1] - spectra[:, 0])
    now[MATERIALS.index("soil")] *= light.soil
    pure = now[land.material]
    soil = now[MATERIALS.index("soil")]
    mixed = (soil + land.cover[..., None] * (pure - soil)) * land.bright[..., None]
    dark = shadows(land.height, light.sun, light.azimuth, GSD)
    return np.where(dark[..., None], mixed * SHADE, mixed).transpose(2, 0, 1).astype(np.float32)


def counts(
    rng: np.random.Generator, rho: np.ndarray, light: Light, blur: float, camera: Camera | None = None
) -> npt.NDArray[np.uint8]:
    """(4, H, W) counts of a camera from reflectance (4, H, W): haze, gain, response, blur, noise."""
    from scipy.ndimage import gaussian_filter

    camera = camera or Camera()
    haze = (light.haze * HAZE)[:, None, None]
    seen = np.stack([gaussian_filter(band, blur) for band in rho * (1 - haze) + AIRLIGHT * haze])
    gain = EXPOSURE * np.array(light.gain) * np.array(camera.gain)
    level = np.clip(seen * gain[:, None, None], 0, None) ** (light.gamma + camera.gamma)
    return np.clip(np.rint(255 * level + rng.normal(0, 2.0, level.shape)), 0, 255).astype(np.uint8)


def elevation(rng: np.random.Generator, land: Land, grain: Grain) -> npt.NDArray[np.uint8]:
    """(N, N) counts of the elevation band: 0.2 m a count, with the noise of image matching, edges smeared."""
    from scipy.ndimage import gaussian_filter

    smeared = gaussian_filter(land.height, 1.0 + grain.blur)
    noise = np.abs(gaussian_filter(rng.normal(0, 1.2, land.height.shape), 1.5))
    return np.clip(np.rint((smeared + noise) / ELEVATION_STEP), 0, 255).astype(np.uint8)
