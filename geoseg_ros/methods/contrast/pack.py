"""One concept of the contrast method: its reference tokens and null items, and their names in a pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.errors import InputError
from geoseg_ros.methods.contrast.references import References, SizePrior, ViewReferences
from geoseg_ros.packs.pack import Pack
from geoseg_ros.projection.proposal_views import DrawnProposals

METHOD = "contrast"
VIEW_PARTS = ("own", "other", "background.0", "background.1")


@dataclass(frozen=True)
class Concept:
    """One concept of the contrast method.

    Attributes:
        name: label name.
        backbone: name for ``open_backbone``. backbone_hash: hash of that backbone.
        mean: float32 [D], subtracted from every token before it is compared.
        references: the reference tokens.
        null_photos: float32 [n, t, D], of each photograph without the concept the t tokens most similar to it, see
            :func:`~geoseg_ros.methods.contrast.references.null_scores`.
        null_pictures: the same of pictures that organised coloured clouds are; older packs have none.
        null_views: per domain, proposals that are not the concept.
        info: further entries of the pack's manifest (configuration, training summary, date).
    """

    name: str
    backbone: str
    backbone_hash: str
    mean: torch.Tensor
    references: References
    null_photos: torch.Tensor
    null_pictures: torch.Tensor
    null_views: Mapping[Domain, DrawnProposals]
    info: Mapping[str, Any] = field(default_factory=dict)

    def to_pack(self) -> Pack:
        """The pack of the concept. Tokens are kept in half precision."""
        references = self.references
        tensors = {
            "mean": self.mean.float(),
            "foreground": references.foreground.half(),
            "context": references.context.half(),
            "background.0": references.background[0].half(),
            "background.1": references.background[1].half(),
            "null.photos": self.null_photos.half(),
            "null.pictures": self.null_pictures.half(),
        }
        for domain, views in references.views.items():
            parts = zip(VIEW_PARTS, (views.own, views.other, *views.background), strict=True)
            tensors |= {f"views.{domain.value}.{part}": tokens.half() for part, tokens in parts}
        if references.size is not None:
            tensors["size.own"], tensors["size.other"] = references.size.own.float(), references.size.other.float()
        tensors |= {f"level.{domain.value}": torch.tensor([level]) for domain, level in references.level.items()}
        for domain, rows in self.null_views.items():
            tensors[f"null.views.{domain.value}"], tensors[f"null.size.{domain.value}"] = rows.tokens.half(), rows.size.float()
        return Pack(self.name, METHOD, self.backbone, self.backbone_hash, tensors, info=self.info)

    @classmethod
    def from_pack(cls, pack: Pack) -> Concept:
        """Read a pack of the contrast.

        Raises:
            InputError: tensors are missing or do not fit together.
        """
        try:
            tensors = {key: value.float() for key, value in pack.tensors.items()}
            views, null_views = {}, {}
            for domain in Domain:
                if f"views.{domain.value}.own" in tensors:
                    own, other, first, second = (tensors[f"views.{domain.value}.{part}"] for part in VIEW_PARTS)
                    views[domain] = ViewReferences(own, other, (first, second))
                null_views[domain] = DrawnProposals(tensors[f"null.views.{domain.value}"], tensors[f"null.size.{domain.value}"])
            _check_shapes(tensors)
            size = SizePrior(tensors["size.own"], tensors["size.other"]) if "size.own" in tensors else None
            background = (tensors["background.0"], tensors["background.1"])
            level = {domain: float(tensors[f"level.{domain.value}"]) for domain in Domain if f"level.{domain.value}" in tensors}
            references = References(tensors["foreground"], tensors["context"], background, views, size, level)
            photos = tensors["null.photos"]
            null = photos, tensors.get("null.pictures", photos[:0])
            return cls(pack.name, pack.backbone, pack.backbone_hash, tensors["mean"], references, *null, null_views, pack.info)
        except (KeyError, ValueError) as error:
            where = pack.path or f"pack '{pack.name}'"
            raise InputError(f"{where}: not a concept pack, or a damaged one ({type(error).__name__}: {error})") from None


def _check_shapes(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError unless every tensor is finite and has the shape that its name requires."""
    for key, tensor in tensors.items():
        axes = 1 if key.startswith(("mean", "level.")) else 3 if key.startswith(("null.views.", "null.photos", "null.pictures")) else 2
        last = 3 if "size." in key else 1 if key.startswith("level.") else tensors["mean"].numel()
        if tensor.dim() != axes or tensor.shape[-1] != last or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{key}: expected {axes} axes, the last of {last} finite numbers, got {list(tensor.shape)}")
    for domain in Domain:
        if len(tensors[f"null.views.{domain.value}"]) != len(tensors[f"null.size.{domain.value}"]):
            raise ValueError(f"null.size.{domain.value}: expected one row for each of null.views.{domain.value}")
