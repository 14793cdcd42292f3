"""The shell around the scheduler core: connections, operations, lifecycle. Imports from the layers below it."""

from fastdist.aliases import names_of

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
