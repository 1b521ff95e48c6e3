"""The users of a data disk: processes, and services that the disk names."""
