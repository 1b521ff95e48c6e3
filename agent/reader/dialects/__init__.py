"""Whose drive or disk it is: one file for each platform."""
