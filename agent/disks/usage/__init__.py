"""Who uses a data disk: processes, and services that it names."""
