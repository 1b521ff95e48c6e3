"""What is remembered: across boots below /var/lib/gandi, and of this boot below /run/gandi."""
