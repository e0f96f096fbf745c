"""Co-segment two folders, learn a pack from them, and find its target in one of the images.

python examples/python_api.py photos/ scans/ out/
"""

import sys
from pathlib import Path

import numpy as np

from geoseg_ros import Cloud, cosegment, learn_concept, open_pipeline


def main(photos: Path, scans: Path, out: Path) -> None:
    """Write a mask for each photograph, labels for each scan, and `mug.pack` to `out`."""
    out.mkdir(parents=True, exist_ok=True)

    # 1. what the photographs and the scans have in common, in these very files
    found = cosegment([photos], [scans])
    print(f"something in common: {found.common} (p {found.common_p_value})")
    for image in found.images:
        np.save(out / f"{Path(image.name).stem}_mask.npy", image.mask)
        print(f"{image.name}: {'shows it' if image.present else 'does not show it'}, {image.share:.1%} of the pixels")
    for cloud in found.clouds:
        np.save(out / f"{Path(cloud.name).stem}_label.npy", cloud.label)

    # 2. the same as a pack, for other files and for the live node
    pack = learn_concept("mug", [photos], [scans])
    pack.save(out / "mug.pack")

    # 3. the pack at work on one cloud
    pipeline = open_pipeline([out / "mug.pack"])
    result = pipeline.process_cloud(Cloud.read(next(path for path in sorted(scans.iterdir()))))
    for found in result.objects:
        print(f"{found.name} at {found.center.round(2)} m, {found.size.round(2)} m, p {found.p_value:.3f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
