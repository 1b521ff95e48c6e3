"""What gandi-agent uses of systemd-python, which ships no types."""
