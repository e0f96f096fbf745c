"""Training: one loop, its schedules and checkpoints, and the distillation of backbones.

``loop.py`` trains a :class:`~geoseg_ros.learning.loop.Task`; ``steps.py`` gives every step its own random numbers; ``schedules.py`` has the
learning rates, ``checkpoint.py`` the files. ``distillation.py`` is a task. ``clustering.py`` has
k-means, ``spectrum.py`` spectra of graphs of features.
"""
