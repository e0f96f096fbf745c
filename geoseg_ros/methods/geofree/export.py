"""The cloud branch of a GeoFree network against a fixed bank of images, as a torch module that can be exported to ONNX and TensorRT.

The dense form of the fusion holds a number for every pair of a point and a patch, several times over. Here only the kept edges of the
graph are computed: they are gathered, K for each point, and the discarded ones, whose weight is zero or close to it, are left out. The
softmax of the attention cancels the normalisation of a row, so that is not needed either.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.methods.geofree.bank import Bank
from geoseg_ros.methods.geofree.config import NetworkConfig
from geoseg_ros.methods.geofree.model import CosegNetwork, Partners
from geoseg_ros.methods.geofree.samplers import matched

MOST_EDGES = 3840  # TensorRT's limit of one top-K
PARTS = 8  # of the points, one after the other: gathered keys and values are the largest tensors
INPUT, OUTPUTS = "points", ("foreground", "background", "presence")
TOLERANCE = 1e-3  # of the features, relative, between the sparse and the dense form


def check_exportable(config: NetworkConfig, bank: Bank) -> None:
    """Refuse networks that the sparse form is not for.

    Raises:
        InputError: A fusion that is not sparse, points that are not only coordinates, a bank without images or clouds, or too many edges.
    """
    expected = {
        "gcsf.mask_mode": (config.gcsf.mask_mode, ("additive",)),
        "gcsf.points": (config.gcsf.points, ("coordinates",)),
        "gcsf.evidence": (config.gcsf.evidence, ("none",)),
        "sfe.fusion": (config.sfe.fusion, ("attention",)),
        "sfe.prior_mode": (config.sfe.prior_mode, ("log",)),
        "sampler.mutual": (config.sampler.mutual, ("intended", "none")),
        "sampler.choose": (config.sampler.choose, ("pool",)),
    }
    for name, (found, allowed) in expected.items():
        if found not in allowed:
            raise InputError(f"{name}: an engine of the cloud branch needs {' or '.join(allowed)}, got {found}")
    if not bank.patches.numel() or (config.sampler.mutual != "none" and not len(bank.partners_o)):
        raise InputError("bank: an engine of the cloud branch needs images and clouds, and there are none")
    blocks = len(bank.patches)
    edges = config.gcsf.k * (blocks if config.gcsf.k_per_image else 1)
    if edges > MOST_EDGES:
        raise InputError(f"gcsf.k: {edges} edges per point are more than the {MOST_EDGES} that TensorRT sorts; use k_per_image = false")


def exportable(network: CosegNetwork, bank: Bank) -> CloudGraph:
    """The sparse form of a network, once it is known to give what the network gives.

    An exporter declares the input float32 [B, N, 3] (N a multiple of :data:`PARTS`) and the names :data:`INPUT` and :data:`OUTPUTS`, and
    keeps float32: in half precision nearest neighbours change.

    Args:
        network: On the processor; it is copied.
        bank: Of the concept, with images and clouds.

    Raises:
        InputError: See :func:`check_exportable`.
        GeosegError: The sparse form differs from the network on random points.
    """
    graph = CloudGraph(copy.deepcopy(network), bank)
    points = max(network.config.sampler.points // PARTS, 1) * PARTS
    generator = torch.Generator().manual_seed(0)
    difference, _ = left_out(graph, bank, F.normalize(torch.randn(1, points, 3, generator=generator), dim=2))
    if not difference <= TOLERANCE:
        raise GeosegError(f"the sparse form of the fusion differs from the network by {difference:.1e}, more than {TOLERANCE:g}")
    return graph


class CloudGraph(nn.Module):
    """Points float32 [B, N, 3] in the unit sphere -> simplified foreground and background float32 [B, m, 3] each, and presence
    float32 [B, 1]: cosine similarity of the sampled foreground with the images' prototype minus that with the most similar negative.

    Args:
        network: Its parts are used, not copied.
        bank: Of the concept; it becomes constants.
        parts: N is a multiple of it.

    Raises:
        InputError: See :func:`check_exportable`.
    """

    keys: torch.Tensor
    values: torch.Tensor
    columns: torch.Tensor
    partners_o: torch.Tensor
    partners_b: torch.Tensor
    object: torch.Tensor
    negatives: torch.Tensor

    def __init__(self, network: CosegNetwork, bank: Bank, parts: int = PARTS) -> None:
        super().__init__()
        check_exportable(network.config, bank)
        self.network, self.parts = network.eval(), parts
        self.blocks = len(bank.patches)
        attention, patches = network.to_points, bank.patches.flatten(0, 1)
        self.cosine = network.config.sfe.attention == "cosine"
        keys = attention.key(patches).unflatten(1, (network.config.sfe.heads, -1))
        self.scale = 1 / math.sqrt(keys.shape[2])
        if self.cosine:
            keys, self.scale = F.normalize(keys, dim=2), math.sqrt(keys.shape[2])
        count = network.config.sampler.partners
        constants = {
            "keys": keys.flatten(1),  # [C, ds]
            "values": attention.value(patches),  # [C, ds]
            "columns": F.normalize(bank.patches_refined.flatten(0, 1), dim=1).T,  # [ds, C]
            "partners_o": bank.partners_o[:count],
            "partners_b": bank.partners_b[:count],
            "object": bank.object,
            "negatives": bank.negatives.T,
        }
        for name, value in constants.items():
            self.register_buffer(name, value.detach().clone())

    def forward(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        foreground, background = self.features(points)
        samples = self.network.samples(foreground, background, points)
        shown = F.normalize(self.network.cloud_object(self.network.extractor(samples.projected_o).embedding), dim=1)
        presence = shown @ self.object[:, None] - (shown @ self.negatives).amax(1, keepdim=True)
        return samples.simplified_o, samples.simplified_b, presence

    def features(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """F~3D_f and F^3D_b [B, N, D3]."""
        network = self.network
        clouds = network.clouds(points, self._partners(points.shape[0]))
        rows = clouds.projected.unflatten(1, (self.parts, -1))
        attended = torch.cat([self._attend(part) for part in rows.unbind(1)], dim=1)
        return network.enhance_points(clouds.foreground, network.to_points.combine(clouds.projected, attended)), clouds.background

    def _partners(self, batch: int) -> Partners | None:
        if self.network.config.sampler.mutual == "none":
            return None
        return Partners(*(p.expand(batch, *p.shape) for p in (self.partners_o, self.partners_b)))

    def _attend(self, rows: torch.Tensor) -> torch.Tensor:
        """A~ v [B, n, ds] of rows [B, n, ds], over the kept edges alone."""
        config, attention = self.network.config, self.network.to_points
        heads = config.sfe.heads
        batch, count, width = rows.shape
        score, edge = self._edges(F.normalize(rows, dim=2) @ self.columns)  # [B, n, E]
        kept = edge.shape[2]
        flat = edge.flatten()
        keys = self.keys.index_select(0, flat).view(batch, count, kept, heads, width // heads)
        query = attention.query(rows).unflatten(2, (heads, -1))
        if self.cosine:
            query = F.normalize(query, dim=3)
        logits = (keys * query[:, :, None]).sum(4) * self.scale + (attention.alpha / config.gcsf.tau_z) * score[..., None]
        weight = torch.softmax(logits, dim=2)
        values = self.values.index_select(0, flat).view(batch, count, kept, heads, width // heads)
        return (values * weight[..., None]).sum(2).flatten(2)

    def _edges(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and columns of the kept edges, [B, n, E] each, of S [B, n, C]."""
        config = self.network.config.gcsf
        blocks = self.blocks if config.k_per_image else 1
        grouped = scores.unflatten(2, (blocks, -1))
        top = grouped.topk(min(config.k, grouped.shape[3]), dim=3)
        first = grouped.shape[3] * torch.arange(blocks, device=scores.device)[:, None]
        return top.values.flatten(2), (top.indices + first).flatten(2)


@torch.no_grad()
def left_out(graph: CloudGraph, bank: Bank, points: torch.Tensor) -> tuple[float, float]:
    """What the sparse form changes.

    Args:
        graph: The sparse form.
        bank: That it was made with.
        points: Float32 [B, N, 3] in the unit sphere.

    Returns:
        The largest relative difference of F~3D_f from the network's own dense form, and the share of sampled foreground points that differ.
    """
    network = graph.network
    clouds = network.clouds(points, graph._partners(points.shape[0]))
    dense = network.fused_clouds(clouds, bank.columns(len(points)))
    sparse, background = graph.features(points)
    difference = float((sparse - dense.features).abs().max() / dense.features.abs().max())
    chosen = [matched(network.samples(f, background, points).simplified_o, points) for f in (dense.features, sparse)]
    return difference, float((chosen[0] != chosen[1]).float().mean())
