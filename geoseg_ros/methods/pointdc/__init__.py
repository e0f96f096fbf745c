"""PointDC (Chen et al., ICCV 2023): the classes of a place, learnt from recordings of it without labels.

``objectives.py`` has the two trainings, ``training.py`` their order and how classes are found, ``grouping.py`` further ways to group.
Scenes, pictures, packs and what runs live are shared: ``learning/rooms.py``, ``packs/place.py`` and their neighbours.
"""
