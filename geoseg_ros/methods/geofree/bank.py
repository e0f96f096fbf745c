"""What a trained concept keeps of its set, so that a further cloud or image is judged without the set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch

from geoseg_ros.learning.affinity import evenly
from geoseg_ros.methods.geofree.inputs import ImageTokens, PreparedCloud, stack
from geoseg_ros.methods.geofree.model import Columns, CosegNetwork, Foreground, Partners, draw_columns


@dataclass(frozen=True)
class Bank:
    """Statistics of a set; every tensor is float32 here and float16 in files. C clouds of K key points, V images of T patches.

    Attributes:
        coarse_mean, final_mean: :meth:`Mgcm.reference` of the first and of the second pass [V, D2].
        patches: F^^2D [V, T, ds] with the highest S-bar. patches_refined: their F~2D. patches_mask: their M [V, T]. Where the points
            take the evidence of patches, all are kept, and those that do not show the target as further entries whose mask is 0.
        key_points: F^^3D [C, K, ds]. partners_o, partners_b: encoded key points for the two samplers [C, K, D3].
        object: prototype p_o [dc], unit length.
        negatives: [E, dc], unit: y_obj^b of the clouds, the images' background prototype, other concepts' p_o.
        own_clouds, own_images: presence scores of the set's items. null_clouds, null_images: of items known not to show the concept.
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

    def columns(self, batch: int) -> Columns:
        """All patches, for each of ``batch`` clouds."""
        patches, refined = (x.flatten(0, 1).expand(batch, -1, -1) for x in (self.patches, self.patches_refined))
        return Columns(patches, refined, len(self.patches), self.patches_mask.flatten().expand(batch, -1))

    def partners(self, count: int, batch: int) -> Partners:
        """The first ``count`` clouds as partners of each of ``batch`` clouds: always the same ones, in the same order."""
        chosen = (x[:count].expand(batch, -1, -1, -1) for x in (self.partners_o, self.partners_b))
        return Partners(*chosen)

    def tensors(self) -> dict[str, torch.Tensor]:
        """As named tensors, float16 as in files."""
        return {f.name: getattr(self, f.name).detach().cpu().half().contiguous() for f in fields(self)}

    @staticmethod
    def from_tensors(tensors: Mapping[str, torch.Tensor]) -> Bank:
        """The inverse of :meth:`tensors`. Raises KeyError where one is missing."""
        return Bank(**{f.name: tensors[f.name].float() for f in fields(Bank)})

    def to(self, device: torch.device | str) -> Bank:
        """The same on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@torch.no_grad()
def build_bank(network: CosegNetwork, clouds: Sequence[PreparedCloud], images: ImageTokens, batch: int = 16) -> Bank:
    """The bank of a set (presence scores are added by :func:`geoseg_ros.methods.geofree.predict.calibrated`).

    Args:
        network: trained; put into evaluation mode.
        clouds: of the set, prepared with the network's N. images: of the set.
    """
    network.eval()
    config = network.config
    device = next(network.parameters()).device
    images = images.select(evenly(range(len(images)), config.bank.images)).to(device)
    coarse = network.images(images.tokens, images.cls, evidence=images.evidence)
    count = coarse.weights.shape[1] if config.sampler.choose == "scores" else min(config.bank.patches, coarse.weights.shape[1])
    keep = coarse.weights.topk(count, dim=1).indices
    patches, refined, mask = _rows(coarse.projected, keep), _rows(coarse.refined, keep), coarse.mask.gather(1, keep)
    against = None if images.against is None else network.against(images.against)
    if against is not None:
        further = (x[0].unflatten(0, (against.blocks, -1)) for x in (against.projected, against.refined))
        patches, refined = (torch.cat([a, b[:, :count]]) for a, b in zip((patches, refined), further, strict=True))
        mask = torch.cat([mask, mask.new_zeros(against.blocks, count)])
    points = stack(evenly(clouds, config.bank.clouds)).to(device)
    keys = min(config.sampler.key_points, points.shape[1])
    whole_partners = config.sampler.mutual == "released"  # it needs partners of all N points, and has only itself as one
    key_points, partners, backgrounds = [], [], []
    for start in range(0, len(points), batch):
        part = points[start : start + batch]
        features = [network.clouds(one[None]) for one in part] if whole_partners else [network.clouds(part)]
        for clouds_ in features:
            foreground = Foreground(clouds_.foreground)
            if network.fused:
                shown = torch.arange(len(clouds_.points), device=device)[:, None] + torch.arange(config.gcsf.r_img, device=device)
                foreground = network.fused_clouds(clouds_, draw_columns(coarse, shown % len(images), against))
            samples = network.samples(foreground, clouds_.background, clouds_.points)
            key_points.append(clouds_.projected[:, :keys])
            partners.append([encoded[:, :keys] for encoded in clouds_.encoded])
            backgrounds.append(network.cloud_object(network.extractor(samples.projected_b).embedding))
    all_keys = torch.cat(key_points)
    final = coarse
    if network.fused:  # the set's images after the fusion with all of the bank's clouds
        columns = all_keys.flatten(0, 1).expand(len(images), -1, -1)
        final = network.images(network.enhanced_images(coarse, columns, len(all_keys)), images.cls, evidence=images.evidence)
    pooled = network.pooled(coarse, final, detach=True)
    unit = torch.nn.functional.normalize
    negatives = torch.cat([unit(torch.cat(backgrounds), dim=1), _mean_direction(pooled.object_background)[None]])
    nothing = torch.zeros(0, device=device)
    return Bank(
        network.mgcm.reference(coarse.channels),
        network.mgcm.reference(final.channels),
        patches,
        refined,
        mask,
        all_keys,
        torch.cat([p[0] for p in partners]),
        torch.cat([p[1] for p in partners]),
        _mean_direction(pooled.object),
        negatives,
        *(nothing,) * 4,
    )


def _rows(values: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    return values.gather(1, keep[:, :, None].expand(-1, -1, values.shape[2]))


def _mean_direction(vectors: torch.Tensor) -> torch.Tensor:
    """Unit mean of the directions of vectors [V, C]."""
    unit = torch.nn.functional.normalize(vectors, dim=1)
    return torch.nn.functional.normalize(unit.mean(0), dim=0)
