"""The client: Client, Future, wait, as_completed. May import: everything up to `rpc`."""

from fastdist.aliases import names_of
from fastdist.client.client import Client
from fastdist.client.current import default_client, get_client
from fastdist.client.future import Future
from fastdist.client.waiting import as_completed, wait

__all__ = ["Client", "Future", "as_completed", "default_client", "get_client", "wait"]

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
