"""ParcelEncoder: which sensor, which attributes, which shapes."""

from functools import partial

import pytest
import torch

from eo_adapt.encoders.blocks.ltae import LTAE
from eo_adapt.encoders.blocks.mean_pool import PixelMean
from eo_adapt.encoders.blocks.pixel_set import PixelSetEncoder
from eo_adapt.encoders.parcel import ParcelEncoder
from eo_adapt.types import Observation

SETS = partial(PixelSetEncoder, attributes=4)
S2 = Observation(torch.rand(3, 4, 10, 6), torch.arange(4.0).expand(3, 4), torch.ones(3, 4).bool())


def test_attributes_travel_to_the_pixel_set_encoder() -> None:
    encoder = ParcelEncoder({"s2": 10, "attributes": 4}, SETS, LTAE).eval()
    one, other = (encoder({"s2": S2, "attributes": Observation(torch.rand(3, 4))}).maps[0] for _ in range(2))
    assert one.shape == (3, 128)
    assert encoder.channels == (128,)
    assert encoder.strides == (0,)
    assert not torch.allclose(one, other)


def test_missing_or_misfitting_attributes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"spatial\.attributes is 4; the data provide 3"):
        ParcelEncoder({"s2": 10, "attributes": 3}, SETS, LTAE)
    encoder = ParcelEncoder({"s2": 10}, SETS, LTAE)
    with pytest.raises(ValueError, match="no 'attributes'"):
        encoder({"s2": S2})
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        encoder({"s2": S2, "attributes": Observation(torch.rand(3, 5))})


def test_attributes_are_optional_company() -> None:
    encoder = ParcelEncoder({"s2": 10, "attributes": 4}, PixelMean, LTAE).eval()
    both = {"s2": S2, "attributes": Observation(torch.rand(3, 4))}
    assert torch.equal(encoder(both).maps[0], encoder({"s2": S2}).maps[0])


def test_sensor_must_be_named_where_there_is_a_choice() -> None:
    with pytest.raises(LookupError, match=r"set encoder\.sensor"):
        ParcelEncoder({"s1": 2, "s2": 10}, PixelMean, LTAE)
    encoder = ParcelEncoder({"s1": 2, "s2": 10}, PixelMean, LTAE, sensor="s2")
    with pytest.raises(LookupError, match="reads sensor 's2'"):
        encoder({"s1": S2})


@pytest.mark.parametrize("shape", [(3, 4, 9), (3, 4, 10, 6, 6), (3, 10)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="10 bands"):
        ParcelEncoder({"s2": 10}, PixelMean, LTAE)({"s2": Observation(torch.zeros(shape))})


def test_unmasked_observations_count_as_valid() -> None:
    encoder = ParcelEncoder({"s2": 10}, PixelMean, LTAE).eval()
    bare = Observation(S2.values, S2.days)
    assert torch.equal(encoder({"s2": bare}).maps[0], encoder({"s2": S2}).maps[0])


def test_no_layer_sees_what_the_masks_hide() -> None:
    seen: list[Observation] = []

    class Probe(PixelMean):
        def forward(self, observation: Observation, attributes: torch.Tensor | None = None) -> torch.Tensor:
            seen.append(observation)
            return super().forward(observation, attributes)

    valid = torch.tensor([[True, False, True, True]]).expand(3, 4)
    pixels = torch.ones(3, 4, 6).bool()
    pixels[:, 0, 3] = False
    values = S2.values.where((valid[..., None] & pixels)[:, :, None], torch.inf)
    ParcelEncoder({"s2": 10}, Probe, LTAE)({"s2": Observation(values, S2.days, valid, pixels)})
    torch.testing.assert_close(seen[0].values, values.where(values.isfinite(), 0.0))


def test_missing_days_are_named() -> None:
    with pytest.raises(ValueError, match="needs the days"):
        ParcelEncoder({"s2": 10}, PixelMean, LTAE)({"s2": Observation(S2.values)})
