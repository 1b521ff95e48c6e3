"""The reader: a short-lived, unprivileged process that parses a platform's bytes into the neutral model.

``python -I -S agent/reader/__main__.py DIALECT PLACE [DIGEST [FOLDER...]]``, with the medium as standard
input; one JSON answer on standard output. The folders contain the distribution's Python modules. PLACE
selects a swap disk, or a bundle of a drive's files. Hostile input is parsed only here, in a process without
access to anything, and pydantic is imported nowhere else. A new dialect is one file in ``dialects`` and its
row there.
"""
