"""The shipped backbone on real photographs and Kinect clouds that it was not trained on. ``-s`` prints the scores of the model card."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.geometry.neighbours import knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.io.cloud_files import read_cloud_fields
from geoseg_ros.projection.views import ViewConfig, draw_views, index_of, paint_views
from support.paths import SHARED

pytestmark = pytest.mark.slow

MSRC = SHARED / "data" / "images" / "msrc"
MOSD = SHARED / "data" / "clouds" / "mosd"


def vote(bank, labels, queries, k=15):
    """Majority class of the ``k`` nearest tokens by cosine."""
    near = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k).indices
    return F.one_hot(labels[near], 24).sum(1).argmax(1)


@pytest.mark.skipif(not MSRC.is_dir(), reason="the MSRC photographs are not on this machine")
def test_tokens_tell_classes_of_photographs_apart():
    """k-NN of tokens between the two halves of every third MSRC photograph, against colour and position."""
    backbone = open_backbone("geoseg_tiny")
    tokens, colours, labels, halves = [], [], [], []
    for number, path in enumerate(sorted((MSRC / "images").iterdir())[::3]):
        mask = cv2.imread(str(next((MSRC / "labels").glob(f"{path.stem}*"))), cv2.IMREAD_GRAYSCALE)
        width, height = (320, 224) if mask.shape[1] > mask.shape[0] else (224, 320)
        image = cv2.resize(cv2.imread(str(path))[:, :, ::-1], (width, height), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        grid = (width // 16, height // 16)
        share = np.stack([cv2.resize((mask == c).astype(np.float32), grid, interpolation=cv2.INTER_AREA) for c in range(24)], -1)
        clear = torch.from_numpy((share.max(-1) > 0.6) & (share.argmax(-1) > 0))
        place = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, grid[0]), np.linspace(-0.5, 0.5, grid[1])), -1)
        colour = np.concatenate([cv2.resize(image, grid, interpolation=cv2.INTER_AREA) / 255 - 0.45, place], -1)
        tokens.append(backbone.tokens(np.ascontiguousarray(image)[None])[0][0][clear])
        colours.append(torch.from_numpy(colour).float()[clear])
        labels.append(torch.from_numpy(share.argmax(-1))[clear])
        halves.append(torch.full((len(labels[-1]),), number % 2))
    label, half = torch.cat(labels), torch.cat(halves)
    scores = {}
    for name, parts in (("geoseg_tiny", tokens), ("colour and position", colours)):
        values = torch.cat(parts)
        guess = vote(values[half == 0] - values.mean(0), label[half == 0], values[half == 1] - values.mean(0))
        hit, truth = (guess == label[half == 1]).float(), label[half == 1]
        scores[name] = hit.mean().item(), np.mean([hit[truth == c].mean().item() for c in truth.unique()])
        print(f"MSRC, {name}: pixel {scores[name][0]:.3f}, class mean {scores[name][1]:.3f}")
    assert scores["geoseg_tiny"][0] > scores["colour and position"][0] + 0.15
    assert scores["geoseg_tiny"][1] > scores["colour and position"][1] + 0.2


@pytest.fixture(scope="module")
def table_top():
    """Photographs of some scenes as tokens per kind (0 boxes, 1 cylinders), and the objects in the clouds of others."""
    if not MOSD.is_dir():
        pytest.skip("the Kinect table-top clouds are not on this machine")
    backbone = open_backbone("geoseg_tiny")
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
    print(f"mOSD, {'colour' if colour else 'shaded'}: AUC {area:.3f} on {len(box)} boxes and {len(cylinder)} cylinders")
    assert len(box) >= 5 and len(cylinder) >= 5
    assert area > least
