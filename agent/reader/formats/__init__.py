"""The formats, one module for each syntax."""
