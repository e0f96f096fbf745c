"""The bank: statistics of a training set with which a trained network judges further clouds and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch

from geoseg_ros.learning.affinity import evenly
from geoseg_ros.methods.geofree.inputs import ImageTokens, PreparedCloud, stack
from geoseg_ros.methods.geofree.model import CosegNetwork, Foreground, GraphColumns, ImageFeatures, Partners, patch_columns


@dataclass(frozen=True)
class Bank:
    """Statistics of a set of C clouds with K key points each and V images with T patches each.

    All tensors are float32 in memory and float16 in files. D2, D3, ds and dc are the widths of tokens, point features, the shared space and
    prototypes.

    Attributes:
        coarse_mean: [V, D2], mean keys (:meth:`Mgcm.reference`) of the images before the fusion.
        final_mean: [V, D2], the same after the fusion.
        patches: F^^2D [V, T, ds], projected patches with the highest weights S-bar. With ``SamplerConfig.choose`` = scores all patches are
            kept, followed by patches that do not show the target.
        patches_refined: F~2D [V, T, ds] of these patches, which the graph compares with points.
        patches_mask: M [V, T] of these patches, 0 .. 1; 0 for those that do not show the target.
        key_points: F^^3D [C, K, ds], projected key points.
        partners_o, partners_b: [C, K, D3], encoded key points for the foreground and the background sampler.
        object: p_o [dc], object prototype of the images, unit length.
        negatives: [E, dc], unit length: background embeddings y_obj^b of the clouds, the background prototype of the images, and the object
            prototypes of other concepts.
        own_clouds, own_images: presence scores of the items of the set.
        null_clouds, null_images: presence scores of items that do not show the target.
    """

    coarse_mean: torch.Tensor
    final_mean: torch.Tensor
    patches: torch.Tensor
    patches_refined: torch.Tensor
    patches_mask: torch.Tensor
    key_points: torch.Tensor
    partners_o: torch.Tensor
    partners_b: torch.Tensor
    object: torch.Tensor
    negatives: torch.Tensor
    own_clouds: torch.Tensor
    own_images: torch.Tensor
    null_clouds: torch.Tensor
    null_images: torch.Tensor

    def columns(self, batch: int) -> GraphColumns:
        """All patches as columns of the graph, repeated for each of ``batch`` clouds."""
        patches, refined = (x.flatten(0, 1).expand(batch, -1, -1) for x in (self.patches, self.patches_refined))
        return GraphColumns(patches, refined, len(self.patches), self.patches_mask.flatten().expand(batch, -1))

    def partners(self, count: int, batch: int) -> Partners:
        """The first ``count`` clouds as partners of each of ``batch`` clouds. The choice does not depend on the batch."""
        chosen = (x[:count].expand(batch, -1, -1, -1) for x in (self.partners_o, self.partners_b))
        return Partners(*chosen)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The attributes by name, float16 on the processor."""
        return {f.name: getattr(self, f.name).detach().cpu().half().contiguous() for f in fields(self)}

    @staticmethod
    def from_tensors(tensors: Mapping[str, torch.Tensor]) -> Bank:
        """Read the result of :meth:`tensors`. Raises KeyError if a tensor is missing."""
        return Bank(**{f.name: tensors[f.name].float() for f in fields(Bank)})

    def to(self, device: torch.device | str) -> Bank:
        """The same on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@torch.no_grad()
def build_bank(network: CosegNetwork, clouds: Sequence[PreparedCloud], images: ImageTokens, batch: int = 16) -> Bank:
    """Build the bank of a set, without presence scores.

    :func:`geoseg_ros.methods.geofree.predict.with_presence_scores` adds the presence scores.

    Args:
        network: a trained network; it is put into evaluation mode.
        clouds: clouds of the set, prepared with the network's number of points.
        images: images of the set.
        batch: clouds that are processed together.
    """
    network.eval()
    config = network.config
    device = next(network.parameters()).device
    images = images.select(evenly(range(len(images)), config.bank.images)).to(device)
    coarse = network.images(images.tokens, images.cls, evidence=images.evidence)
    against = None if images.against is None else network.against(images.against)
    points = stack(evenly(clouds, config.bank.clouds)).to(device)
    all_keys, partners, backgrounds = _cloud_statistics(network, points, coarse, against, batch)
    final = coarse
    if network.fused:  # the set's images after the fusion with all of the bank's clouds
        columns = all_keys.flatten(0, 1).expand(len(images), -1, -1)
        final = network.images(network.enhanced_images(coarse, columns, len(all_keys)), images.cls, evidence=images.evidence)
    pooled = network.pooled(coarse, final, detach=True)
    negatives = torch.cat([torch.nn.functional.normalize(backgrounds, dim=1), _mean_direction(pooled.object_background)[None]])
    nothing = torch.zeros(0, device=device)
    return Bank(
        network.mgcm.reference(coarse.channels),
        network.mgcm.reference(final.channels),
        *_patch_statistics(network, coarse, against),
        all_keys,
        *partners,
        _mean_direction(pooled.object),
        negatives,
        *(nothing,) * 4,
    )


def _patch_statistics(
    network: CosegNetwork, coarse: ImageFeatures, against: GraphColumns | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``patches``, ``patches_refined`` and ``patches_mask`` of the bank."""
    config = network.config
    count = coarse.weights.shape[1] if config.sampler.choose == "scores" else min(config.bank.patches, coarse.weights.shape[1])
    keep = coarse.weights.topk(count, dim=1).indices
    patches, refined, mask = _rows(coarse.projected, keep), _rows(coarse.refined, keep), coarse.mask.gather(1, keep)
    if against is not None:
        further = (x[0].unflatten(0, (against.blocks, -1)) for x in (against.projected, against.refined))
        patches, refined = (torch.cat([a, b[:, :count]]) for a, b in zip((patches, refined), further, strict=True))
        mask = torch.cat([mask, mask.new_zeros(against.blocks, count)])
    return patches, refined, mask


def _cloud_statistics(
    network: CosegNetwork, points: torch.Tensor, coarse: ImageFeatures, against: GraphColumns | None, batch: int
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """``key_points``, both ``partners`` and the background embeddings [C, dc] of clouds [C, N, F], ``batch`` at a time."""
    config = network.config
    keys = min(config.sampler.key_points, points.shape[1])
    whole_partners = config.sampler.mutual == "released"  # it needs partners of all N points, and has only itself as one
    key_points, partners, backgrounds = [], [], []
    for start in range(0, len(points), batch):
        part = points[start : start + batch]
        features = [network.clouds(one[None]) for one in part] if whole_partners else [network.clouds(part)]
        for clouds_ in features:
            foreground = Foreground(clouds_.foreground)
            if network.fused:
                shown = torch.arange(len(clouds_.points), device=points.device)[:, None] + torch.arange(
                    config.gcsf.r_img, device=points.device
                )
                foreground = network.fused_clouds(clouds_, patch_columns(coarse, shown % len(coarse.projected), against))
            samples = network.samples(foreground, clouds_.background, clouds_.points)
            key_points.append(clouds_.projected[:, :keys])
            partners.append([encoded[:, :keys] for encoded in clouds_.encoded])
            backgrounds.append(network.cloud_object(network.extractor(samples.projected_b).embedding))
    return torch.cat(key_points), (torch.cat([p[0] for p in partners]), torch.cat([p[1] for p in partners])), torch.cat(backgrounds)


def _rows(values: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    return values.gather(1, keep[:, :, None].expand(-1, -1, values.shape[2]))


def _mean_direction(vectors: torch.Tensor) -> torch.Tensor:
    """Unit mean of the directions of vectors [V, C]."""
    unit = torch.nn.functional.normalize(vectors, dim=1)
    return torch.nn.functional.normalize(unit.mean(0), dim=0)
