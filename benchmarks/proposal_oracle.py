"""The proposal oracle: how good a method can be that only picks among the proposals.

``python -m benchmarks.proposal_oracle FILE.pcd ...`` prints one JSON line per file and one for all. The files hold a
``label`` column whose tens are the instance (mOSD), 0 = background.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import GeometryConfig, analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import read_cloud_fields


@dataclass(frozen=True)
class ProposalOracle:
    """Attributes:
    best_iou: float64 [G], per true instance the IoU, counted in input points, of its best proposal.
    superpoint_iou: float64 [G], IoU of the union of all superpoints that lie mostly in the instance: the ceiling of votes per superpoint.
    proposals: number of proposals.
    lost_to_planes: share of the instances' points that lie on a plane.
    seconds: stage -> seconds.
    """

    best_iou: NDArray[np.float64]
    superpoint_iou: NDArray[np.float64]
    proposals: int
    lost_to_planes: float
    seconds: dict[str, float]


def proposal_oracle(cloud: Cloud, instance_label: NDArray[np.integer], config: GeometryConfig | None = None) -> ProposalOracle:
    """Compare the proposals of a cloud with true instances.

    Args:
        instance_label: int [N], 0 = background. Only finite points count.
    """
    scene = analyse_cloud(cloud, config)
    truth = np.where(cloud.valid(), instance_label, 0)
    names = np.unique(truth[truth > 0])
    total = np.array([np.count_nonzero(truth == name) for name in names], np.float64)
    voxels = len(scene.xyz)
    has = scene.inverse >= 0
    # points of each instance per voxel, [G, M]
    inside = (
        np.stack([np.bincount(scene.inverse[has & (truth == name)], minlength=voxels) for name in names])
        if len(names)
        else np.zeros((0, voxels))
    )

    def iou(chosen: NDArray[np.bool_], instance: int) -> float:
        common = inside[instance][chosen].sum()
        return float(common / (total[instance] + scene.count[chosen].sum() - common))

    best = np.zeros(len(names))
    ceiling = np.zeros(len(names))
    parts = int(scene.superpoint.max(initial=-1)) + 1
    part_count = np.bincount(scene.superpoint, scene.count, parts)
    for g in range(len(names)):
        for proposal in scene.proposals:
            chosen = np.zeros(voxels, bool)
            chosen[proposal] = True
            best[g] = max(best[g], iou(chosen, g))
        mostly = np.bincount(scene.superpoint, inside[g], parts) > 0.5 * part_count
        ceiling[g] = iou(mostly[scene.superpoint], g)
    lost = inside[:, scene.plane >= 0].sum() / max(total.sum(), 1)
    return ProposalOracle(best, ceiling, len(scene.proposals), float(lost), scene.seconds)


def summary(results: list[ProposalOracle]) -> dict[str, float]:
    """Means over all instances and scenes."""
    best = np.concatenate([r.best_iou for r in results])
    ceiling = np.concatenate([r.superpoint_iou for r in results])
    seconds = [sum(r.seconds.values()) for r in results]
    return {
        "scenes": len(results),
        "instances": len(best),
        "mean_best_iou": float(best.mean()),
        "share_above_0.5": float(np.mean(best > 0.5)),
        "share_above_0.75": float(np.mean(best > 0.75)),
        "mean_superpoint_iou": float(ceiling.mean()),
        "proposals_per_scene": float(np.mean([r.proposals for r in results])),
        "lost_to_planes": float(np.mean([r.lost_to_planes for r in results])),
        "seconds_median": float(np.median(seconds)),
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the oracle of each file and the summary, JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", help="clouds with a label column (label // 10 = instance)")
    parser.add_argument("--voxel", type=float, default=GeometryConfig.voxel, help="voxel edge, metres; 0 = automatic")
    options = parser.parse_args(arguments)
    results = []
    try:
        for name in options.files:
            cloud, fields = read_cloud_fields(name)
            if "label" not in fields:
                raise InputError(f"{name}: no field label")
            result = proposal_oracle(cloud, fields["label"].astype(np.int64) // 10, GeometryConfig(voxel=options.voxel))
            results.append(result)
            row = {
                "file": name,
                "best_iou": [round(float(v), 3) for v in result.best_iou],
                "superpoint_iou": [round(float(v), 3) for v in result.superpoint_iou],
                "proposals": result.proposals,
                "lost_to_planes": round(result.lost_to_planes, 4),
                "milliseconds": {stage: round(1000 * s) for stage, s in result.seconds.items()},
            }
            print(json.dumps(row))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps({key: round(value, 4) for key, value in summary(results).items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
