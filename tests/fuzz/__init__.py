"""Fuzzing: each function that reads what others wrote, with bytes that a mutator made.

A target (``target.py``) calls one reader with some bytes, and asserts what must hold for any bytes: it
returns or raises its own kind of error, soon and with little memory, and its answer is what its callers rely
on. Where a format has a second reader, or a writer, the two are compared.

The targets are in ``drives.py`` (what a platform delivers), ``images.py`` (what is then applied to files,
and the state that an image brings along), ``disks.py`` (what is on a disk that someone attached),
``system_files.py`` (files of the administrator and of other programs) and ``machine.py`` (the kernel, udev,
sockets, the agent's own records). ``corpus/TARGET`` has inputs that reach different code, and by names of
their own the findings:

- ``make test`` runs each target with its corpus and some thousand mutations of it (``test_targets.py``);
- ``make soak ONLY=fuzz`` searches with atheris, guided by coverage, for hours (``test_campaign.py``);
- ``python -m tests.fuzz TARGET FILE…`` runs it with the inputs of files, ``--search SECONDS`` searches, and
  ``--minimise FOLDER`` renews the corpus from what searches have found.
"""
