"""What test suites use: small clusters in one event loop, functions to submit, and waits with an end.

Everything is also found in `fastdist.utils_test`, under the names of `distributed.utils_test`. May import: every layer
below; pytest in `fixtures` and where a test is failed or skipped.
"""
