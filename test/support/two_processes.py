"""A script for torchrun: one of several processes of two trainings. Prints its rank, a difference of weights, and a summary."""

import json
import sys
from pathlib import Path

from geoseg_ros.learning import distillation
from geoseg_ros.learning.fabric import first_process, open_fabric
from geoseg_ros.learning.image_views import list_images
from support.distillation_world import Teacher, small_student
from support.small_task import train_and_compare

CONFIG = distillation.DistillConfig(epochs=4, batch=4, sides=(64,), projection_views=24, held_out=4)

if __name__ == "__main__":
    weights, photos, out = sys.argv[1:]
    fabric = open_fabric("cpu")
    assert fabric.world_size == 2 and fabric.is_global_zero == first_process()
    difference = train_and_compare(fabric, weights)
    distillation.TinyConfig = small_student
    summary = distillation.distill(Teacher(), list_images([Path(photos)]), out, CONFIG)
    sys.stdout.write(json.dumps([fabric.global_rank, difference, summary]) + "\n")
