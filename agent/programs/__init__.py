"""The operator's and the customer's programs: which may run, and how."""
