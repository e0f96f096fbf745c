"""The shipped backbones on real photographs and Kinect clouds that they have not seen. ``-s`` prints the scores of the model cards."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.evaluate.msrc import read_photographs
from geoseg_ros.evaluate.token_classes import backbone_tokens, token_classes
from geoseg_ros.geometry.neighbours import knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.io.cloud_files import read_cloud_fields
from geoseg_ros.projection.views import ViewConfig, draw_views, index_of, paint_views
from support.paths import SHARED
from support.trivial_methods import colour_and_place

pytestmark = pytest.mark.slow

MSRC = SHARED / "data" / "images" / "msrc"
MOSD = SHARED / "data" / "clouds" / "mosd"


@pytest.mark.skipif(not MSRC.is_dir(), reason="the MSRC photographs are not on this machine")
def test_tokens_tell_classes_of_photographs_apart():
    """Every third MSRC photograph: geoseg_base beats geoseg_tiny beats colour and position."""
    photographs = read_photographs(MSRC)[::3]
    rows = {name: backbone_tokens(open_backbone(name)) for name in ("geoseg_base", "geoseg_tiny")} | {"colour": colour_and_place}
    scores = {name: token_classes(tokens, photographs) for name, tokens in rows.items()}
    for name, found in scores.items():
        print(f"MSRC, {name}: pixel {found.pixel:.3f}, class mean {found.class_mean:.3f}")
    assert scores["geoseg_base"].pixel > scores["geoseg_tiny"].pixel + 0.03 > scores["colour"].pixel + 0.15
    assert scores["geoseg_base"].class_mean > scores["geoseg_tiny"].class_mean + 0.05 > scores["colour"].class_mean + 0.2


@pytest.fixture(scope="module", params=["geoseg_base", "geoseg_tiny"])
def table_top(request):
    """Photographs of some scenes as tokens per kind (0 boxes, 1 cylinders), and the objects in the clouds of others."""
    if not MOSD.is_dir():
        pytest.skip("the Kinect table-top clouds are not on this machine")
    backbone = open_backbone(request.param)
    banks, objects = [], []
    for photographs in ((0, 9), (33, 40)):
        windows = []
        for number in photographs:
            image = read_cloud_fields(MOSD / f"learn{number}.pcd")[0].rgb.reshape(480, 640, 3)
            corners = [(y, x) for y in (128, 256) for x in range(0, 417, 104)]
            windows += [cv2.resize(image[y : y + 224, x : x + 224], (224, 224)) for y, x in corners]
        banks.append(backbone.tokens(np.stack(windows))[0][:, 2:-2, 2:-2].flatten(0, 2))
    for kind, numbers in enumerate(((2, 6, 11), (34, 38))):
        for number in numbers:
            cloud, fields = read_cloud_fields(MOSD / f"learn{number}.pcd")
            owner = np.where(cloud.valid(), np.asarray(fields["label"]).ravel() // 10, 0)
            for instance in np.unique(owner[owner > 0]):
                rows = np.nonzero(owner == instance)[0][::4]
                if len(rows) >= 100:
                    xyz = cloud.xyz[rows]
                    objects.append((kind, xyz, cloud.rgb[rows], normals(xyz, knn(xyz, 16)[1])[0]))
    return backbone, banks, objects


@pytest.mark.parametrize(("colour", "least"), [(True, 0.95), (False, 0.8)])
def test_virtual_views_meet_photographs(table_top, colour, least):
    """Boxes or cylinders? Virtual views of objects against photographs of OTHER scenes, nothing trained on either."""
    backbone, banks, objects = table_top
    config = ViewConfig(size=224, views=1, colour=colour)
    scores = ([], [])
    for kind, xyz, rgb, normal in objects:
        views = draw_views(xyz, normal, np.zeros(3), config, up=(0, -1, 0))
        image, index = paint_views(views, rgb, normal, config), index_of(views)
        covered = cv2.resize((index[0] >= 0).astype(np.float32), (14, 14), interpolation=cv2.INTER_AREA) > 0.5
        query = F.normalize(backbone.tokens(image)[0][0][torch.from_numpy(covered)], dim=1)
        near = [(query @ F.normalize(bank, dim=1).T).topk(50).values.mean().item() for bank in banks]
        scores[kind].append(near[1] - near[0])
    box, cylinder = np.array(scores[0]), np.array(scores[1])
    area = (cylinder[:, None] > box[None]).mean()
    print(f"mOSD, {backbone.name}, {'colour' if colour else 'shaded'}: AUC {area:.3f} on {len(box)} boxes and {len(cylinder)} cylinders")
    assert len(box) >= 5 and len(cylinder) >= 5
    assert area > least
