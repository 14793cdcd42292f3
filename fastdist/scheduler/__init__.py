"""The shell around the scheduler core: connections, operations, lifecycle. Imports from the layers below it."""
