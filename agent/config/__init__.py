"""The wanted configuration: the model of a delivered document, and the administrator's settings."""
