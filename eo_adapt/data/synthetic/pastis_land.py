"""What stands on the patches of one tile of the embedded PASTIS, and how it looks to optics and radar on any day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .climate import DAYS, Floats, daily_temperature, weather
from .farming import Leaf, Management, leaves, management
from .landscape import Landscape
from .pastis_tiles import CROP, TILES, between, shares
from .scene import Climate, ground_cover
from .sky import SOIL_RED
from .spectra import GREEN, STRAW, WAVELENGTH, soil, surface

BANDS = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]  # of the 13 of Sentinel-2
BACKGROUND, VOID = 0, 19
FIELD = 11.0  # pixels along the side of a parcel
LOOKS = 5.0  # equivalent number of looks of the radar images
CLOUD = np.array([0.62, 0.60, 0.60, 0.61, 0.62, 0.63, 0.64, 0.65, 0.42, 0.33])  # reflectance, as BANDS
GRAZING = 0.12  # dB that backscatter falls by a degree of incidence, beyond 38


@dataclass(frozen=True)
class Knobs:
    """Strengths of what makes tiles differ, 0 to 1; see PastisWorld."""

    phenology: float
    radiometry: float
    priors: float
    clouds: float


@dataclass(frozen=True)
class Land:
    """The parcels of one tile's patches.

    Attributes:
        maps: (P, S, S) number of the parcel of each pixel, unique in the tile.
        target: (P, S, S) uint8 classes, with tracks between parcels and void.
        kind: (N,) class of each parcel, 0 for woods and villages.
        built: (N,) bool, villages among class 0.
    """

    maps: npt.NDArray[np.int64]
    target: npt.NDArray[np.uint8]
    kind: npt.NDArray[np.int64]
    built: npt.NDArray[np.bool_]


def paint(rng: np.random.Generator, patches: int, size: int, share: Floats) -> Land:
    """Parcels as Voronoi cells of a jittered grid, classes by share, tracks between them, void at some edges."""
    side = max(2, round(size / FIELD))
    rows, columns = np.mgrid[:size, :size]
    maps, kinds = [], []
    for patch in range(patches):
        seeds = (np.indices((side, side)).reshape(2, -1).T + rng.uniform(0.1, 0.9, (side * side, 2))) * size / side
        stretch = rng.uniform(0.6, 1.7)
        far = (rows[..., None] - seeds[:, 0]) ** 2 * stretch + (columns[..., None] - seeds[:, 1]) ** 2 / stretch
        maps.append(far.argmin(-1) + patch * side * side)
        crop = rng.choice(list(CROP), side * side, p=share)
        kinds.append(np.where(rng.random(side * side) < 0.2, BACKGROUND, crop))
    parcel, kind = np.stack(maps), np.concatenate(kinds)
    target = kind[parcel].astype(np.uint8)
    edge = (parcel != np.roll(parcel, 1, 1)) | (parcel != np.roll(parcel, 1, 2))
    edge[:, 0], edge[:, :, 0] = False, False
    target[edge] = BACKGROUND
    border = np.unique(np.concatenate([parcel[:, 0].ravel(), parcel[:, -1].ravel()]))
    void = border[(rng.random(len(border)) < 0.15) & (kind[border] > 0)]
    target[np.isin(parcel, void) & ~edge] = VOID
    return Land(parcel, target, kind, rng.random(len(kind)) < 0.4)


@dataclass(frozen=True)
class Fields:
    """One tile's parcels with what decides how they grow; see :func:`grown`."""

    crops: npt.NDArray[np.str_]
    land: Landscape
    climate: Climate
    farm: Management
    leaf: Leaf


def grown(rng: np.random.Generator, tile: str, land: Land, knobs: Knobs) -> Fields:
    """Climate and farmers of a tile: at phenology 0 every tile has the climate of the place in the middle."""
    patches, each = len(land.maps), len(land.kind) // len(land.maps)
    lon, lat = (between(knobs.phenology, name, tile) + rng.normal(0, 0.1, patches) for name in ("lon", "lat"))
    farm = np.repeat(np.arange(patches), each)
    village = Landscape(lon[farm], lat[farm], farm, farm, farm, lon, lat)
    crops = np.array([CROP.get(int(k), CROP[1]) for k in land.kind])
    climate = Climate(daily_temperature(lon, lat, weather(rng, patches)), lat)
    return Fields(crops, village, climate, management(rng, village, 1.0), leaves(rng, crops, 1.0))


@dataclass(frozen=True)
class State:
    """Parcels of one patch on its dates: leaf cover (n, T), optical spectra (n, T, 10)."""

    green: Floats
    spectra: Floats


def state(
    rng: np.random.Generator, tile: str, land: Land, fields: Fields, patch: int, days: np.ndarray, knobs: Knobs
) -> State:
    """How the parcels of a patch stand on some days (since 1 January; the autumn before is that of the same year)."""
    parcels = np.arange(len(land.kind))[fields.land.farm == patch]
    which, when = np.repeat(parcels, len(days)), np.tile(days % DAYS, len(parcels))
    cover = ground_cover(fields.crops, fields.land, fields.climate, fields.farm, which, when)
    red = SOIL_RED * float(between(knobs.radiometry, "soil", tile)) * np.exp(rng.normal(0, 0.12, len(which)))
    leaf = Leaf(*(getattr(fields.leaf, name)[which] for name in ("visible", "nir", "swir")))
    spectra = surface(cover, soil(red), leaf)[:, BANDS].reshape(len(parcels), len(days), -1)
    green = cover.green.reshape(len(parcels), len(days)).copy()
    summer = 0.5 - 0.5 * np.cos(2 * np.pi * (days - 20) / DAYS)
    woods = (0.7 + 0.3 * summer)[:, None] * 0.65 * GREEN[BANDS] + (0.3 - 0.3 * summer)[:, None] * 0.5 * STRAW[BANDS]
    wild = land.kind[parcels] == BACKGROUND
    spectra[wild & ~land.built[parcels]], green[wild] = woods, 0.5 + 0.3 * summer
    spectra[wild & land.built[parcels]] = 1.1 * STRAW[BANDS] + 0.03
    gain = between(knobs.radiometry, "gain", tile)
    place = (WAVELENGTH[BANDS] - WAVELENGTH[BANDS][0]) / (WAVELENGTH[BANDS][-1] - WAVELENGTH[BANDS][0])
    return State(green, spectra * (gain[0] + (gain[1] - gain[0]) * place))


def veil(rng: np.random.Generator, size: int, share: float) -> Floats:
    """(S, S) opacity of the clouds of one date, 0 to 1, that cover about ``share`` of it."""
    coarse = rng.normal(0, 1, (6, 6))
    at = np.linspace(0, 4.999, size)
    low, part = at.astype(int), at % 1
    rows = coarse[low] * (1 - part[:, None]) + coarse[low + 1] * part[:, None]
    field = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    limit = np.quantile(field, 1 - share) if share < 1 else field.min() - 1
    return np.asarray(np.clip((field - limit) * 2.5, 0, 1) ** 0.5)


def optical(rng: np.random.Generator, land: Land, patch: int, now: State, cloudy: Floats) -> npt.NDArray[np.int16]:
    """(T, 10, S, S) counts of L2A, clouds and all.

    Args:
        rng: Source of randomness.
        land: The parcels.
        patch: Which patch.
        now: Of its parcels.
        cloudy: (T,) share of each date that is cloud.
    """
    local = land.maps[patch] - land.maps[patch].min()
    size = local.shape[0]
    texture = np.exp(rng.normal(0, 0.05, (size, size, 1)))
    frames = []
    for t, share in enumerate(cloudy):
        clear = now.spectra[local, t] * texture * np.exp(rng.normal(0, 0.03)) + rng.normal(0, 0.004, (size, size, 10))
        white = veil(rng, size, float(share))[..., None]
        frames.append(clear * (1 - white) + CLOUD * np.exp(rng.normal(0, 0.1)) * white)
    counts = np.rint(1e4 * np.stack(frames)).clip(1, 30000).astype(np.int16)
    return np.ascontiguousarray(counts.transpose(0, 3, 1, 2))


def radar(rng: np.random.Generator, land: Land, patch: int, now: State, angle: float) -> npt.NDArray[np.float32]:
    """(T, 3, S, S) dB: VV, VH and their ratio, with speckle; bare soil is bright in VV when wet, leaves in VH.

    Args:
        rng: Source of randomness.
        land: The parcels.
        patch: Which patch.
        now: Of its parcels, on the dates of the orbit.
        angle: Incidence angle, degrees.
    """
    local = land.maps[patch] - land.maps[patch].min()
    ids = np.unique(land.maps[patch])
    kind = land.kind[np.arange(ids.min(), ids.min() + now.green.shape[0])]
    tall = np.isin(kind, (3, 5, 7))[:, None]  # corn, rapeseed, sunflower scatter in their volume
    village = (land.built[ids.min() : ids.min() + len(kind)] & (kind == BACKGROUND))[:, None]
    wet = rng.normal(0, 1.0, now.green.shape[1])
    vv = -10.5 + wet - (2.5 - 3.0 * tall) * now.green + 7 * village - GRAZING * (angle - 38)
    vh = -19.0 + 0.5 * wet + (3.5 + 2.5 * tall) * now.green + 5 * village - GRAZING * (angle - 38)
    pair = np.stack([vv, vh])[:, local].transpose(3, 0, 1, 2)  # (T, 2, S, S)
    pair = pair + 10 * np.log10(rng.gamma(LOOKS, 1 / LOOKS, pair.shape))
    return np.concatenate([pair, pair[:, :1] - pair[:, 1:]], 1).astype(np.float32)


def tile_land(rng: np.random.Generator, tile: str, patches: int, size: int, knobs: Knobs) -> Land:
    """The parcels of a tile's patches."""
    if tile not in TILES:
        raise ValueError(f"tile {tile!r} is not known; there are {list(TILES)}")
    return paint(rng, patches, size, shares(knobs.priors, tile))
