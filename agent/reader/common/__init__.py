"""Shared by dialects and formats: readers of values, validation, problems, limits."""
