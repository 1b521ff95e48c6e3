"""The agent's records: across boots below /var/lib/gandi, for one boot below /run/gandi."""
