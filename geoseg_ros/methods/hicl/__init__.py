"""HICL (Kang et al., CVPR 2024): named classes of a place, learnt from what a vision-language teacher says of its frames, without labels.

``pairs.py`` has the noisy labels and their refinement, ``attention.py`` the transformers over sampled points, ``objectives.py`` the losses
and batches, ``training.py`` the training; ``method.py`` makes the scene pack. Packs and what runs live are shared: ``packs/place.py``.
"""
