"""What happens when a resource comes, changes or goes while the machine runs. One module for each kind
of resource.
"""
