"""Reports to the platform: records of stages, failures and devices, for a program on the host."""
