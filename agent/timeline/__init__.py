"""Where the time of this boot and of its device events went, from what is recorded anyway."""
