"""Parcels-as-Points: every parcel from its centre, beside a map of classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.base import Encoder
from ..types import IGNORE, Batch, Features, Panoptic
from .base import Head, PanopticHead, at_size
from .boxes import BoxMasks, boxes_around, cross_entropy, probability
from .dense import Dense
from .parcels import Parcels, best_places, heat_of, parcels_of

LabelBy = Literal["centre", "map"]
TERMS = ("centre", "size", "label", "shape")
BETA = 4  # how little is asked of pixels near a centre
RARE = 0.1  # heat everywhere before training
GROUPS = 4  # of group norm
UNSURE = 0.01  # heat of points that are not looked at


class Points(NamedTuple):
    """What is said of M points: size (M, 2) pixels, logits of the class (M, K), shape (M, S, S)."""

    size: Tensor
    label: Tensor
    shape: Tensor


class PaPs(PanopticHead):
    """Parcels-as-Points (Garnot & Landrieu 2021, ICCV, arXiv:2107.07933), beside a map of classes.

    The finest map gives, a pixel, the heat of centres and a saliency. A point reads all maps where it lies, and says
    height and width, class and a small shape; the shape, stretched to the box and joined to the saliency there, is the
    mask. In training each parcel is one point, the hottest of its zone. Afterwards points are local maxima of the
    heat; masks are laid out by falling heat, and one that is mostly covered already is left out.

    ``forward`` gives the logits of ``inner``, which learn from the task loss as any map does: alignments, selection,
    calibration and scores of maps look at these. :meth:`loss` adds what the points learn, of labelled domains alone.
    Parcels of void or of a class that is not learnt teach nothing, and no pixel without a label is asked to be cold.

    Deviations. The paper's map of classes is that of its instances: nothing where there is none, and without a
    gradient there. Norms are of one sample or point (group and layer norm), where the official code has batch norms
    over the points of a batch: those fail for one point, and points of a target are never seen. Of the official code
    these are not taken over: the loss of shapes runs a softmax over two probabilities, so that a perfect mask has 0.313
    (here binary cross-entropy, a mean over each parcel); a batch of one patch and a patch of one point fail; boxes are
    cut at the height in both directions; the last two layers of the class are linear without anything between them; a
    batch without parcels has a loss that is not divided by anything; the least confidence is tuned on the last batch of
    the validation alone (here on all of it). Sizes are learnt as multiples of the side of a shape. Heat and zones
    follow from the parcels of the crop that is fed.

    Args:
        encoder: Encoder of maps.
        classes: Number of classes K.
        inner: Builds the head of the map from ``encoder`` and ``classes``; None = :class:`.dense.Dense`.
        width: Channels of the convolutions of heat and saliency, a multiple of 4.
        shape: Cells along a side of a shape.
        mask_width: Channels of the convolutions that look at a mask.
        label_by: Class of a parcel: what its ``centre`` says (the paper), or the ``map`` within its mask, which
            adaptation reaches and :meth:`Alignment.adjust` corrects.
        min_confidence: Heat of a centre, in (0, 1); None = the one of the best PQ on validation patches of the
            sources, found when a run is evaluated.
        mask_threshold: Probability of a pixel of a mask, in (0, 1).
        min_remain: Share of a mask that must not be covered yet, in [0, 1).
        most: Points of a sample, the hottest ones.
        weights: Of the terms ``centre``, ``size``, ``label`` and ``shape`` in the loss.

    Raises:
        ValueError: If the encoder gives a vector, or an option is out of its range.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        inner: Callable[..., Head] | None = None,
        width: int = 32,
        shape: int = 16,
        mask_width: int = 16,
        label_by: LabelBy = "centre",
        min_confidence: float | None = None,
        mask_threshold: float = 0.4,
        min_remain: float = 0.5,
        most: int = 300,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(encoder, classes)
        self.weights = {**dict.fromkeys(TERMS, 1.0), **(weights or {})}
        _check(width, shape, mask_width, label_by, min_confidence, mask_threshold, min_remain, most, self.weights)
        self.inner = (inner or Dense)(encoder=encoder, classes=classes)
        self.stride, self.side, self.label_by = encoder.strides[0], shape, label_by
        self.min_confidence, self.threshold, self.remain, self.most = min_confidence, mask_threshold, min_remain, most
        first, stack = encoder.channels[0], sum(encoder.channels)
        self.heat, self.saliency = _convs(first, width), _convs(first, width)
        nn.init.constant_(self.heat[-1].bias, math.log(RARE / (1 - RARE)))  # type: ignore[arg-type]
        self.size = _mlp((stack, stack // 2, stack // 4, 2))
        self.label = _mlp((stack, stack // 2, stack // 4, classes))
        self.shape = _mlp((stack, stack // 2, shape**2))
        self.masks = BoxMasks(mask_width)

    def check(self, encoder: Encoder) -> None:
        """Raises ValueError if the encoder's first map is a vector."""
        if encoder.strides[0] == 0:
            raise ValueError(
                f"PaPs finds parcels in maps; {type(encoder).__name__} gives one vector a sample (strides "
                f"{tuple(encoder.strides)}): choose an encoder of image series, e.g. encoder=utae, or head=classify"
            )

    def forward(self, features: Features) -> Tensor:
        """Logits (B, K, H, W) of the map of classes."""
        logits: Tensor = self.inner(features)
        return logits

    # -- what is learnt ----------------------------------------------------------------------------------------------

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms ``centre``, ``size``, ``label`` and ``shape``; 0 where no parcel is known.

        Raises:
            ValueError: If the batch does not tell parcels apart.
        """
        if batch.instances is None or batch.labels is None:
            raise ValueError("PaPs learns from Batch.instances and Batch.labels; this batch lacks one of them")
        heat, saliency = self._maps(features)
        parcels = parcels_of(batch.instances, batch.labels)
        places, zoned = best_places(heat, parcels)
        known = parcels.label != IGNORE
        centre = centre_loss(heat, parcels.of(known), batch.labels != IGNORE)
        terms = {"centre": centre, **dict.fromkeys(TERMS[1:], heat.new_zeros(()))}
        if (keep := known & zoned).any():
            terms |= self._of_points(features, saliency, parcels.of(keep), places[keep], batch.instances)
        return {name: self.weights[name] * term for name, term in terms.items()}

    def _of_points(
        self, features: Features, saliency: Tensor, parcels: Parcels, places: Tensor, instances: Tensor
    ) -> dict[str, Tensor]:
        said = self._points(features, parcels.patch, places)
        boxes = boxes_around(parcels.patch, places, said.size, (saliency.shape[1], saliency.shape[2]))
        each = []
        for some in self.masks(boxes, said.shape, saliency):
            there = instances[parcels.patch[some.at, None, None], some.rows[:, :, None], some.columns[:, None, :]]
            each.append(cross_entropy(some, there == parcels.number[some.at, None, None]))
        return {
            "size": ((said.size - parcels.size).abs() / parcels.size).sum(1).mean(),
            "label": F.cross_entropy(said.label, parcels.label),
            "shape": torch.cat(each).mean(),
        }

    # -- what is said ------------------------------------------------------------------------------------------------

    def _maps(self, features: Features) -> tuple[Tensor, Tensor]:
        """Logits of heat and saliency at the size of the image, (B, H, W) float32 each."""
        finest = features.maps[0]
        height, width = features.size or tuple(side * self.stride for side in finest.shape[2:])
        heat, saliency = (at_size(x(finest).float(), (height, width))[:, 0] for x in (self.heat, self.saliency))
        return heat, saliency

    def _points(self, features: Features, patch: Tensor, places: Tensor) -> Points:
        """What is said of points, from the cells of all maps that they lie in."""
        finest = features.maps[0].shape[2:]
        height, width = features.size or tuple(side * self.stride for side in finest)
        read = []
        for x in features.maps:
            row, column = places[:, 0] * x.shape[2] // height, places[:, 1] * x.shape[3] // width
            read.append(x[patch, :, row, column])
        stack = torch.cat(read, 1)
        shape = self.shape(stack).float().unflatten(1, (self.side, self.side))
        return Points(self.side * F.softplus(self.size(stack).float()), self.label(stack).float(), shape)

    @torch.no_grad()
    def panoptic(self, features: Features, logits: Tensor) -> Panoptic:
        """The parcels of each sample; numbers fall with confidence.

        Args:
            features: What the encoder saw.
            logits: (B, K, H, W), as the method predicts them; read with ``label_by="map"``.
        """
        heat, saliency = self._maps(features)
        patch, places, hot = self._peaks(heat.sigmoid())
        found = Panoptic(
            heat.new_zeros(heat.shape).long(), torch.full_like(heat, IGNORE).long(), torch.zeros_like(heat)
        )
        if not len(patch):
            return found
        said = self._points(features, patch, places)
        boxes = boxes_around(patch, places, said.size, (heat.shape[1], heat.shape[2]))
        pixels: dict[int, Tensor] = {}
        for some in self.masks(boxes, said.shape, saliency):
            hit = (probability(some) > self.threshold).cpu()
            flat = (some.rows[:, :, None] * heat.shape[2] + some.columns[:, None, :]).cpu()
            pixels |= {at: flat[i][hit[i]] for i, at in enumerate(some.at.tolist())}
        label = said.label.argmax(1).tolist()
        segments, classes, confidence = (x.flatten(1).cpu() for x in found)
        for number, (at, sample) in enumerate(enumerate(patch.tolist()), start=1):  # by falling heat
            mine = pixels[at]
            new = mine[segments[sample, mine] == 0]
            if len(new) and len(new) > self.remain * len(mine):
                segments[sample, new], confidence[sample, new] = number, hot[at].cpu()
                classes[sample, new] = label[at]
        if self.label_by == "map":
            classes = _voted(segments, logits.flatten(2).cpu())
        return Panoptic(*(x.view(heat.shape).to(heat.device) for x in (segments, classes, confidence)))

    def _peaks(self, heat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample (M,), place (M, 2) and heat (M,) of local maxima, the hottest first; ``most`` of each sample."""
        least = UNSURE if self.min_confidence is None else self.min_confidence
        top = (heat == F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0]) & (heat >= least)
        hot, at = heat.masked_fill(~top, 0.0).flatten(1).topk(min(self.most, heat[0].numel()), dim=1)
        sample, rank = torch.where(hot > 0)
        order = hot[sample, rank].argsort(descending=True, stable=True)
        sample, rank = sample[order], rank[order]
        place = at[sample, rank]
        return sample, torch.stack([place // heat.shape[2], place % heat.shape[2]], 1), hot[sample, rank]


def _voted(segments: Tensor, logits: Tensor) -> Tensor:
    """(B, P) class of each pixel's segment by the mean log-probability of its pixels; ``IGNORE`` without one.

    Args:
        segments: (B, P), each number in one sample only; 0 = none.
        logits: (B, K, P).
    """
    said = logits.float().log_softmax(1).transpose(1, 2).flatten(0, 1)
    sums = said.new_zeros(int(segments.max()) + 1, said.shape[1]).index_add_(0, segments.flatten(), said)
    return sums.argmax(1)[segments].where(segments > 0, IGNORE)


def centre_loss(heat: Tensor, parcels: Parcels, known: Tensor) -> Tensor:
    """Cross-entropy of centres, where pixels near one are asked less: (1 - truth)^4 (Law & Deng 2018, alpha = 0).

    Divided by the number of parcels; a sample without any counts as one.

    Args:
        heat: (B, H, W) logits.
        parcels: Those that are to be found.
        known: (B, H, W) bool, pixels that are asked to be cold where no centre is.
    """
    truth = heat_of(parcels, (heat.shape[0], heat.shape[1], heat.shape[2]))
    middle = torch.zeros_like(known)
    middle[parcels.patch, parcels.centre[:, 0], parcels.centre[:, 1]] = True
    cold = (1 - truth).pow(BETA) * known * F.softplus(heat)
    total = torch.where(middle, F.softplus(-heat), cold).sum()
    return total / middle.flatten(1).sum(1).clamp_min(1).sum()


def _convs(channels: int, width: int) -> nn.Sequential:
    """Two convolutions to one channel; the border is repeated, which even a map of one cell allows."""
    first, last = (nn.Conv2d(a, b, 3, padding=1, padding_mode="replicate") for a, b in ((channels, width), (width, 1)))
    return nn.Sequential(first, nn.GroupNorm(GROUPS, width), nn.ReLU(inplace=True), last)


def _mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear, layer norm and ReLU from each size to the next; the last is linear."""
    layers: list[nn.Module] = []
    for size, following in pairwise(sizes[:-1]):
        layers += [nn.Linear(size, following), nn.LayerNorm(following), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def _check(
    width: int,
    shape: int,
    mask_width: int,
    label_by: str,
    least: float | None,
    threshold: float,
    remain: float,
    most: int,
    weights: Mapping[str, float],
) -> None:
    if width < GROUPS or width % GROUPS or min(shape, mask_width, most) < 1:
        raise ValueError(
            f"head.width must be a multiple of {GROUPS}, head.shape, head.mask_width and head.most at least 1; got "
            f"{width}, {shape}, {mask_width} and {most}"
        )
    if label_by not in get_args(LabelBy):
        raise ValueError(f"head.label_by must be one of {list(get_args(LabelBy))}; got {label_by!r}")
    if not ((least is None or 0 < least < 1) and 0 < threshold < 1 and 0 <= remain < 1):
        raise ValueError(
            "head.min_confidence and head.mask_threshold lie between 0 and 1, head.min_remain in [0, 1); got "
            f"{least}, {threshold} and {remain}"
        )
    if set(weights) - set(TERMS) or not all(math.isfinite(w) and w >= 0 for w in weights.values()):
        raise ValueError(f"head.weights gives {list(TERMS)} weights of 0 or more; got {dict(weights)}")
