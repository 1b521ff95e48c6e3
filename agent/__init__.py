"""gandi-agent: configure a machine from the platform's document, and handle attached devices at run time."""

__version__ = "0.2.0"
