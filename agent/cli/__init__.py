"""The verbs of the command gandi-agent."""
