"""The systems that are compared, one small file each, and the workloads that they all run.

A peer is a module with the same few names; the workloads it cannot run are the functions it does not have:

- `REQUIREMENTS`: what pip installs into its environment; `SLOW`: whether it gets the small sizes;
- `cluster(folder)`: a context manager that starts two single-threaded workers and yields a `Cluster`;
- `submit_map(client, numbers)` and `gather(client, futures)`: one `inc` per number;
- `run_graph(client, graph, keys)`: the values of `keys` in a graph of `workloads.Node`;
- `call_once(client, number)`: one task, from the call to its result;
- `start_times()`: seconds of import, first result and close.

May import: the standard library; each peer its own system. Modules here never import `compare`.
"""
