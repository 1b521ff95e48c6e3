"""Names of the files of the native dialect, for its parser and for the check of its signature.

The last of each are passed without a medium (agent/sources/passed.py); no drive's file has such a name.
"""

from __future__ import annotations

#: In the order of precedence: the first that is there is the document.
DOCUMENTS = ("gandi.json", "gandi/config", "gandi.config")
SCRIPTS = ("gandi/script", "script", "gandi.script")
#: What ssh-keygen(1) adds to a file's name for its signature; and the name on a plain ISO 9660, where a name
#: has one dot.
SIGNATURE, SHORT_SIGNATURE = ".sig", "gandi.sig"
