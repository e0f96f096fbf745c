"""Published figures of unsupervised semantic segmentation, and in what their protocols differ from ours."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """Attributes: method; data, split and classes; miou, oacc, macc in percent, None where not given; source."""

    method: str
    data: str
    miou: float
    oacc: float | None
    macc: float | None
    source: str


_SCANNET, _S3DIS13, _S3DIS12 = "ScanNet val, 20 classes", "S3DIS area 5, 13 classes", "S3DIS area 5, 12 classes (no clutter)"
_POINTDC, _GROWSP, _LOGOSP = "PointDC, ICCV 2023, table", "GrowSP, CVPR 2023, as quoted in its issue 32", "LogoSP, its issue 6"

PUBLISHED = {
    "scannet": (
        *(Published(name, _SCANNET, miou, None, None, _POINTDC) for name, miou in (("DeepCluster", 3.88), ("IIC", 3.98), ("PiCIE", 4.10))),
        Published("CrossPoint", _SCANNET, 3.81, None, None, _POINTDC),
        Published("CSC", _SCANNET, 4.64, None, None, _POINTDC),
        Published("PointDC", _SCANNET, 25.74, 63.69, None, _POINTDC),
        Published("PointDC, linear probe", _SCANNET, 28.78, None, None, _POINTDC),
        Published("PointDC with DGCNN", _SCANNET, 14.06, None, None, _POINTDC),
        Published("GrowSP", _SCANNET, 25.4, 57.3, 44.2, _GROWSP),
    ),
    "s3dis": (
        *(Published(name, _S3DIS13, miou, None, None, _POINTDC) for name, miou in (("DeepCluster", 5.46), ("IIC", 5.33), ("PiCIE", 5.90))),
        Published("CSC", _S3DIS13, 11.09, None, None, _POINTDC),
        Published("PointDC", _S3DIS13, 22.59, 54.10, None, _POINTDC),
        Published("LogoSP", _S3DIS12, 46.5, 82.8, 55.9, _LOGOSP),
        Published("LogoSP, run by a user", _S3DIS12, 44.02, 82.68, 54.70, _LOGOSP),
    ),
}

DIFFERENCES = (
    "our image backbone is that of the report, not STEGO (PointDC) or DINOv2 (LogoSP)",
    "our super-voxels are Felzenszwalb & Huttenlocher's on a k-NN graph of voxels, not ScanNet's segments of the mesh or VCCS with region "
    "growing",
    "rows of S3DIS with 12 and with 13 classes must not be compared: ours have 13, clutter included",
    "ours is the last state of each seed, mean and standard deviation over seeds; what the +- of GrowSP ranges over, and which epoch is "
    "reported, is not stated in its code",
    "a cluster is matched to at most one class; the mIoU of majorities (m2o) is another figure",
    "points without a prediction count as wrong",
    "where there are no pictures (S3DIS, LiDAR), ours are drawn by virtual cameras inside the cloud",
)


def published_markdown(data: str) -> str:
    """The published rows for a data set and the differences, Markdown; empty for one without rows."""
    rows = PUBLISHED.get(data, ())
    if not rows:
        return ""
    lines = ["", "Published, as percent:", "", "| method | data | mIoU | oAcc | mAcc | source |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.method} | {r.data} | {r.miou} | {_number(r.oacc)} | {_number(r.macc)} | {r.source} |" for r in rows]
    return "\n".join([*lines, "", "Differences of the protocols:", "", *(f"* {line}" for line in DIFFERENCES), ""])


def _number(value: float | None) -> str:
    return "-" if value is None else str(value)
