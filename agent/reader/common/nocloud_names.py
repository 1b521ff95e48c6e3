"""The names of NoCloud's lines among the files of a drive (agent/sources/nocloud_line.py), also shown in
messages. No drive's file that is read has such a name.
"""

from __future__ import annotations

SERIAL = "the serial number"
COMMAND_LINE = "the kernel command line"
NETWORK = "network-config of the kernel command line"
