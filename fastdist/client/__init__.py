"""The client: Client, Future, wait, as_completed. May import: everything up to `rpc`, never `deploy` at import time."""
