"""The reader: a short-lived, unprivileged process that makes the neutral model of a platform's bytes.

``python -I -S agent/reader/__main__.py DIALECT PLACE [DIGEST [FOLDER...]]``, with the medium as standard
input; one JSON answer on standard output. The folders hold the distribution's Python modules. The place says
that a swap disk is read, or a bundle of a drive's files. Everything hostile is met here, by a process that
can do nothing, and pydantic is imported nowhere else. A new dialect is one file in ``dialects`` and its row
there.
"""
