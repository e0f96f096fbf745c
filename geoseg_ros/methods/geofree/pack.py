"""A trained network with the bank of its set, and their storage in a pack."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import below, read_tensors, under, write_tensors
from geoseg_ros.learning.photo_references import PhotoReferences
from geoseg_ros.methods.geofree.bank import Bank
from geoseg_ros.methods.geofree.config import GeoFreeConfig
from geoseg_ros.methods.geofree.model import CosegNetwork
from geoseg_ros.nets.dgcnn import Dgcnn
from geoseg_ros.packs.pack import Pack
from geoseg_ros.settings import with_values

METHOD = "geofree"
EXTRACTOR = "dgcnn"  # kind of a file of weights


@dataclass(frozen=True)
class Target:
    """A trained target: the network, its bank and its references.

    Attributes:
        name: label of the target.
        backbone: name and hash of the image backbone.
        config: settings of the training.
        mean: float32 [D], mean token of photographs; with the preset ``views`` it is subtracted from every token.
        photos: reference tokens of the photographs, from which the evidence of a patch is computed.
        network: trained network in evaluation mode, on the processor.
        bank: bank of the training set.
        info: further entries of the pack's manifest.
    """

    name: str
    backbone: tuple[str, str]
    config: GeoFreeConfig
    mean: torch.Tensor
    photos: PhotoReferences
    network: CosegNetwork
    bank: Bank
    info: Mapping[str, Any] = field(default_factory=dict)

    def to_pack(self) -> Pack:
        """Make the pack of the target. The bank and the reference tokens are stored in half precision."""
        extractor = self.network.extractor
        tensors = below("network", self.network.state_dict()) | below("bank", self.bank.tensors())
        tensors |= {
            "mean": self.mean.float(),
            "photos.foreground": self.photos.foreground.half(),
            "photos.context": self.photos.context.half(),
            "photos.background.0": self.photos.background[0].half(),
            "photos.background.1": self.photos.background[1].half(),
        }
        info = dict(self.info) | {
            "config": asdict(self.config),
            "dim": self.network.dim,
            "extractor": {"classes": extractor.classes, "neighbours": extractor.neighbours, "source": extractor.source},
        }
        return Pack(self.name, METHOD, *self.backbone, tensors, info=info)

    @classmethod
    def from_pack(cls, pack: Pack) -> Target:
        """Read a pack.

        Raises:
            InputError: tensors or settings are missing or do not fit together.
        """
        try:
            config = with_values(GeoFreeConfig(), pack.info["config"])
            kind = pack.info["extractor"]
            extractor = Dgcnn(int(kind["classes"]), int(kind["neighbours"]), str(kind["source"]))
            network = CosegNetwork(int(pack.info["dim"]), config.fit_config().network, extractor)
            network.load_state_dict(under("network", pack.tensors))
            photos = {name: tensor.float() for name, tensor in under("photos", pack.tensors).items()}
            references = PhotoReferences(photos["foreground"], photos["context"], (photos["background.0"], photos["background.1"]))
            bank = Bank.from_tensors(under("bank", pack.tensors))
            mean = pack.tensors["mean"].float()
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, InputError) as error:
            where = pack.path or f"pack '{pack.name}'"
            raise InputError(f"{where}: damaged pack of the method {METHOD} ({str(error).splitlines()[0]})") from None
        return cls(pack.name, (pack.backbone, pack.backbone_hash), config, mean, references, network.eval(), bank, pack.info)


def save_extractor(path: str | os.PathLike[str], network: Dgcnn, info: Mapping[str, object] | None = None) -> None:
    """Write the weights of a DGCNN, with ``info`` (plain JSON values)."""
    head = {"classes": network.classes, "neighbours": network.neighbours, "source": network.source, "info": dict(info or {})}
    write_tensors(path, EXTRACTOR, network.state_dict(), head)


def load_extractor(path: str | os.PathLike[str]) -> Dgcnn:
    """Read a file of :func:`save_extractor`: a network in evaluation mode on the processor.

    Raises:
        InputError: the file is absent, damaged, newer, or something else.
    """
    tensors, head = read_tensors(path, EXTRACTOR)
    try:
        network = Dgcnn(int(head["classes"]), int(head["neighbours"]), str(head["source"]))
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: damaged {EXTRACTOR} weights ({str(error).splitlines()[0]})") from None
    return network.eval()
