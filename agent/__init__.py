"""gandi-agent: makes a machine of the platform's document, and follows the platform for life."""

__version__ = "0.2.0"
