"""PointDC (Chen et al., ICCV 2023): the classes of a place, learnt from recordings of it without labels.

``rooms.py`` has the scenes that are learnt from, ``objectives.py`` the two trainings, ``training.py`` their order and how classes are
found, ``grouping.py`` further ways to group; ``pack.py`` is what is kept, ``segmenter.py`` what runs live.
"""
