"""The published figures beside ours."""

from __future__ import annotations

from benchmarks.tables.published import PUBLISHED, beside, differences, ours


def test_published_figures() -> None:
    """As read: nothing more, and every one with a source."""
    s3dis = {row.method: (row.iou, row.accuracy, row.jaccard) for row in PUBLISHED["s3dis-coseg"]}
    assert s3dis["GeoFree-CoSeg"] == (0.54, 0.83, 0.59) and s3dis["Yang et al. (ICCV 2021), clouds only"] == (0.46, None, None)
    scan = {row.method: (row.iou, row.accuracy, row.jaccard) for row in PUBLISHED["scanobjectnn-coseg"]}
    assert scan["GeoFree-CoSeg"] == (0.63, 0.78, 0.53) and not any("Yang" in method for method in scan)
    assert all(row.source for rows in PUBLISHED.values() for row in rows)


def test_our_rows_join_the_modalities() -> None:
    row = {"oracle": False, "backbone": True, "micro_iou": 0.5, "iou": 0.25, "accuracy": 0.75}
    summary = [
        {**row, "method": "both", "modality": "clouds"},
        {**row, "method": "both", "modality": "images", "micro_iou": 0.1},
        {**row, "method": "clouds", "modality": "clouds", "backbone": False, "micro_iou": float("nan")},
        {**row, "method": "best", "modality": "images", "oracle": True},
    ]
    both, clouds, best = ours(summary, "tiny", "no labels")
    assert (both.method, both.iou, both.accuracy, both.jaccard) == ("both", 0.5, 0.75, 0.25)
    assert both.source == "this run, backbone tiny (no labels)" and clouds.source == "this run, no backbone"
    assert clouds.iou is None and clouds.jaccard is None and best.method == "best (oracle)" and best.iou is None
    text = beside("s3dis-coseg", [both], ["a difference"])
    assert "| both | 0.500 | 0.750 | 0.250 | this run" in text and "| SCoSPARC (ECCV 2024), images only |  | 0.74 | 0.38 |" in text
    assert "* a difference" in text


def test_differences_follow_the_run() -> None:
    without, limited = differences("s3dis-coseg", False, None), differences("s3dis-coseg", True, 5)
    assert any("No pictures" in text for text in without) and not any("No pictures" in text for text in limited)
    assert "At most 5" in limited[0] and any("one room in 3" in text for text in limited)
    assert any("ScanNet and SceneNN" in text for text in differences("scanobjectnn-coseg", True, None))
