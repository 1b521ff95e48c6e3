"""``make bench``: what the agent costs a boot, beside the plain image and one with Debian's cloud-init."""
