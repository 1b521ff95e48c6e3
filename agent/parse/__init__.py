"""The reader: a short-lived, unprivileged process that makes the neutral model of a platform's bytes.

``python -I -S agent/parse/__main__.py DIALECT OFFSET [DIGEST]`` with the medium as standard input; one JSON
answer on standard output. Everything hostile is met here, by a process that can do nothing, and pydantic is
imported nowhere else. A new dialect is one file here and one line in ``child._dialect``.
"""
