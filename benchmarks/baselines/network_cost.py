"""What the network costs: one image against sets of growing size, one training step, one epoch of a size. As Markdown.

The numbers are of the processor time of one thread (they do not change with what else the machine does), on random clouds and tokens of the
sizes of real ones: no operation looks at the values.

example:
  python -m benchmarks.baselines.network_cost                      # size of the papers; a minute
  python -m benchmarks.baselines.network_cost --size small --runs 5
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from benchmarks.baselines.variants import SIZES
from geoseg_ros.methods.geofree.bank import build_bank
from geoseg_ros.methods.geofree.config import FitConfig, NetworkConfig, preset
from geoseg_ros.methods.geofree.inputs import ImageTokens, PreparedCloud, prepare_cloud, stack
from geoseg_ros.methods.geofree.model import CosegNetwork
from geoseg_ros.methods.geofree.objective import image_step, joint_step
from geoseg_ros.methods.geofree.predict import predict_clouds, predict_images
from geoseg_ros.nets.dgcnn import Dgcnn

SETS = (2, 4, 8, 16, 32, 64, 128)
DIM, SIDE = 128, 28  # of geoseg_tiny; patches per side as in the paper


def random_images(count: int, dim: int = DIM, side: int = SIDE) -> ImageTokens:
    """Tokens of ``count`` images without meaning."""
    generator = torch.Generator().manual_seed(count)
    tokens = torch.randn(count, side * side, dim, generator=generator)
    return ImageTokens(tokens, tokens.mean(1), torch.rand(count, side * side, generator=generator), (side, side))


def random_clouds(count: int, points: int) -> list[PreparedCloud]:
    """``count`` clouds without meaning."""
    rng = np.random.default_rng(0)
    return [prepare_cloud(rng.normal(size=(points, 3)).astype(np.float32), points) for _ in range(count)]


def seconds(run: Callable[[], object], runs: int) -> float:
    """Median processor time of ``run`` after one that does not count."""
    run()
    spent = []
    for _ in range(runs):
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)
    return statistics.median(spent)


def made_network(config: NetworkConfig) -> CosegNetwork:
    """A network as it is before training, with an extractor as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CosegNetwork(DIM, config, Dgcnn(2))


def set_rows(config: NetworkConfig, sizes: tuple[int, ...], runs: int) -> list[tuple[int, float, float, float]]:
    """Per size V of the set: seconds of one further image, of one further cloud, and of the correlation in a step of all V images."""
    network = made_network(replace(config, bank=replace(config.bank, images=max(sizes)))).eval()
    clouds, image = random_clouds(4, config.sampler.points), random_images(1)
    rows = []
    for count in sizes:
        images = random_images(count)
        bank = build_bank(network, clouds, images)
        with torch.inference_mode():
            channels = network.mgcm.channels(images.tokens)
            joint = seconds(lambda c=channels, i=images: network.mgcm.score(c, i.cls), runs)  # type: ignore[misc]
        one = seconds(lambda b=bank: predict_images(network, image, b), runs)  # type: ignore[misc]
        cloud = seconds(lambda b=bank: predict_clouds(network, clouds[:1], b), runs)  # type: ignore[misc]
        rows.append((count, one, cloud, joint / count))
    return rows


def step_seconds(config: FitConfig, runs: int) -> tuple[float, float]:
    """Seconds of a step of stage 1 (``group`` images) and of stage 3 (``batch`` clouds, ``images`` images), forward and backward."""
    network = made_network(config.network).train()
    group, some = random_images(config.group), random_images(config.images)
    points = stack(random_clouds(config.batch, config.network.sampler.points))

    def step(terms: dict[str, torch.Tensor]) -> None:
        network.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()

    first = seconds(lambda: step(image_step(network, group)), runs)
    third = seconds(lambda: step(joint_step(network, points, some, torch.Generator().manual_seed(0), True).terms), runs)
    return first, third


def report(size: str, runs: int, clouds: int, sizes: tuple[int, ...] = SETS) -> str:
    """Markdown of everything, for a set of ``clouds`` clouds."""
    lines = ["| V | one further image, ms | one further cloud, ms | correlation of all, ms per image |", "|---|---|---|---|"]
    rows = set_rows(SIZES[size].of(preset("paper").network), sizes, runs)
    lines += [f"| {v} | {1e3 * one:.1f} | {1e3 * cloud:.1f} | {1e3 * joint:.2f} |" for v, one, cloud, joint in rows]
    config = preset("paper")
    config = replace(config, network=SIZES[size].of(config.network))
    first, third = step_seconds(config, max(1, runs // 5))
    steps = -(-clouds // config.batch)
    epochs = (config.stage1.epochs, config.stage2.epochs + config.stage3.epochs)
    hours = (epochs[0] * first + epochs[1] * steps * third) / 3600
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines += ["", f"Training, preset `paper`, size `{size}`: {first:.2f} s per step of stage 1 ({config.group} images),"]
    lines += [f"{third:.1f} s per step of stages 2 and 3 ({config.batch} clouds, {config.images} images)."]
    lines += [f"{clouds} clouds: {steps * third:.0f} s per epoch, {hours:.2f} h of one thread for {epochs[0]} + {epochs[1]} epochs."]
    lines += [f"Largest memory of the process: {peak:.1f} GB."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="full", choices=sorted(SIZES))
    parser.add_argument("--runs", type=int, default=10, help="timed runs (default %(default)s)")
    parser.add_argument("--clouds", type=int, default=40, help="of the set whose epochs are counted (default %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(report(options.size, max(1, options.runs), max(2, options.clouds)))


if __name__ == "__main__":
    main()
