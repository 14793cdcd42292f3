"""Servers as dask.distributed shows them: views with its attribute names, made on demand and kept nowhere.

The servers find the modules of this folder by name when an attribute is asked for that they do not have themselves.
May import: every layer below.
"""
