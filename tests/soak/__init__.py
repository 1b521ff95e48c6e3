"""``make soak``: the tests that are too long for ``make test``, in parts, and the page with their
results.
"""
