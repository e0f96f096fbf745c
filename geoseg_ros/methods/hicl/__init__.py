"""HICL (Kang et al., CVPR 2024): named classes of a place, learnt from what a vision-language teacher says of its frames, without labels.

``sampling.py`` draws points by super-voxel, ``attention.py`` has the transformers over them, ``objectives.py`` the losses and batches,
``training.py`` the training; ``method.py`` makes the scene pack. Noisy labels and packs are shared: ``learning/noisy_labels.py``,
``packs/place.py``.
"""
