"""Tools to look at a cluster, under the names that dask.distributed uses. May import: every layer below."""

from fastdist.aliases import names_of

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
