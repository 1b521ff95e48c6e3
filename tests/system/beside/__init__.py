"""The same NoCloud seeds through Debian's cloud-init and through the agent, in Debian's tree."""
