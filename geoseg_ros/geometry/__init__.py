"""Clouds as arrays: files, voxels, neighbours, normals, planes, superpoints, proposals."""
