"""The background bank: tokens of photographs and of virtual views of everyday scenes and objects, which no concept should match.

Every backbone has its own bank. That of ``geoseg_tiny`` ships with the package; others are made once from the procedural world, and from
photographs where the user has some, by ``geoseg bank``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import Domain, photo_tokens, unit
from geoseg_ros.errors import InputError
from geoseg_ros.files import atomic_path, home
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.learning.affinity import even_rows
from geoseg_ros.projection.proposal_views import DrawnProposals, keep_proposals
from geoseg_ros.projection.scene import CloudScene, SceneConfig

FORMAT = 3
PHOTO_TOKENS = 96  # kept of each photograph, evenly spread
VIEW_TOKENS = 16  # kept of each proposal, of each way in which it is drawn
SHIPPED = Path(__file__).parent / "banks"


@dataclass(frozen=True)
class BackgroundBank:
    """The background bank of one backbone.

    Attributes:
        backbone_hash: of the backbone that it was made with.
        mean: float32 [D], mean photo token; subtracted from every token before it is compared.
        photos: float32 [n, PHOTO_TOKENS, D], unit tokens with the mean subtracted.
        pictures: the same of the pictures that organised coloured clouds are, see :attr:`CloudScene.picture`.
        proposals: per domain, those of clouds with colour (COLOUR) and without (SHADED), per_proposal(domain) tokens each.
        clouds: per domain int64 [n], number of the cloud that each proposal is from.
        source: description of the photographs and clouds.
    """

    backbone_hash: str
    mean: torch.Tensor
    photos: torch.Tensor
    pictures: torch.Tensor
    proposals: Mapping[Domain, DrawnProposals]
    clouds: Mapping[Domain, torch.Tensor]
    source: str

    def views(self, domain: Domain) -> tuple[DrawnProposals, torch.Tensor]:
        """Proposals for clouds of this domain, and the numbers of their clouds. Coloured clouds also give shaded proposals."""
        if domain is Domain.COLOUR:
            return self.proposals[domain], self.clouds[domain]
        parts = [self.proposals[Domain.SHADED], self.proposals[Domain.COLOUR].shaded()]
        rows = DrawnProposals.join(parts, per_proposal(domain), len(self.mean))
        return rows, torch.cat([self.clouds[Domain.SHADED], self.clouds[Domain.COLOUR]])


def per_proposal(domain: Domain) -> int:
    """Number of tokens kept of one proposal; a coloured cloud is drawn in two ways."""
    return VIEW_TOKENS * (2 if domain is Domain.COLOUR else 1)


def build_bank(
    backbone: ImageBackbone,
    photos: Iterable[NDArray[np.uint8]],
    clouds: Iterable[Cloud],
    source: str,
    config: SceneConfig,
    step: Callable[[], object] = lambda: None,
) -> BackgroundBank:
    """Make a bank.

    Args:
        backbone: the image backbone.
        photos: uint8 RGB [H, W, 3].
        clouds: coloured clouds give coloured and shaded views, others shaded ones.
        source: description of the photographs and clouds.
        config: settings of scenes.
        step: called after each item.
    """
    means, kept = [], []
    for photo in photos:
        tokens = photo_tokens(backbone, photo, config.image_side)[0].reshape(-1, backbone.dim)
        means.append(tokens.mean(0))
        kept.append(even_rows(tokens, PHOTO_TOKENS))
        step()
    if not kept:
        raise InputError("background bank: expected at least one photograph")
    mean = torch.stack(means).mean(0)
    seen: dict[Domain, list[DrawnProposals]] = {domain: [] for domain in Domain}
    number: dict[Domain, list[int]] = {domain: [] for domain in Domain}
    pictures = []
    for k, cloud in enumerate(clouds):
        step()
        scene = CloudScene(cloud, backbone, config)
        if scene.picture is not None:
            pictures.append(even_rows(scene.picture.tokens.reshape(-1, backbone.dim), PHOTO_TOKENS))
        found = scene.views
        if found is not None:
            seen[found.domain].append(keep_proposals(found.unit(mean), VIEW_TOKENS))
            number[found.domain] += [k] * len(found.size)
    return BackgroundBank(
        backbone.hash,
        mean,
        unit(torch.stack(kept), mean),
        unit(torch.stack(pictures), mean) if pictures else torch.zeros(0, PHOTO_TOKENS, backbone.dim),
        {domain: DrawnProposals.join(parts, per_proposal(domain), backbone.dim) for domain, parts in seen.items()},
        {domain: torch.tensor(numbers, dtype=torch.int64) for domain, numbers in number.items()},
        source,
    )


def save_bank(bank: BackgroundBank, path: str | os.PathLike[str]) -> None:
    """Write a bank as half-precision safetensors, atomically."""
    tensors = {"mean": bank.mean, "photos": bank.photos.half().contiguous(), "pictures": bank.pictures.half().contiguous()}
    tensors |= {f"tokens.{domain.value}": rows.tokens.half().contiguous() for domain, rows in bank.proposals.items()}
    tensors |= {f"size.{domain.value}": rows.size.contiguous() for domain, rows in bank.proposals.items()}
    tensors |= {f"clouds.{domain.value}": numbers for domain, numbers in bank.clouds.items()}
    manifest = {"format": FORMAT, "backbone_hash": bank.backbone_hash, "source": bank.source}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"geoseg_bank": json.dumps(manifest, sort_keys=True)})


def load_bank(path: str | os.PathLike[str]) -> BackgroundBank:
    """Read a bank.

    Raises:
        InputError: the file is damaged, or not a bank.
    """
    try:
        with safe_open(path, "pt") as file:
            manifest = json.loads((file.metadata() or {})["geoseg_bank"])
            if manifest["format"] != FORMAT:
                raise InputError(f"{path}: format: expected {FORMAT}, got {manifest['format']}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        rows = {d: DrawnProposals(tensors[f"tokens.{d.value}"].float(), tensors[f"size.{d.value}"].float()) for d in Domain}
        clouds = {domain: tensors[f"clouds.{domain.value}"] for domain in Domain}
        photos, pictures = tensors["photos"].float(), tensors["pictures"].float()
        return BackgroundBank(manifest["backbone_hash"], tensors["mean"], photos, pictures, rows, clouds, manifest["source"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"{path}: not a background bank ({error})") from None


def cache_folder() -> Path:
    """Folder for banks that do not ship with the package: ``$XDG_CACHE_HOME/geoseg_ros`` or ``~/.cache/geoseg_ros``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "geoseg_ros"


def bank_paths(backbone: ImageBackbone) -> Sequence[Path]:
    """Paths of the bank of ``backbone``: in the package, and in the user's cache."""
    name = f"{backbone.hash[:16]}.safetensors"
    return [SHIPPED / name, cache_folder() / "banks" / name]


def find_bank(backbone: ImageBackbone) -> BackgroundBank | None:
    """The bank of ``backbone``, or None if there is none yet."""
    for path in bank_paths(backbone):
        if path.exists():
            bank = load_bank(path)
            if bank.backbone_hash == backbone.hash:
                return bank
    return None
