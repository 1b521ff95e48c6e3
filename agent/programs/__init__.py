"""Programs of the operator and the customer: which may run, and how they are run."""
