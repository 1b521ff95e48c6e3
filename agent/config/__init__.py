"""What the machine is to be: the document's model, and the administrator's settings."""
