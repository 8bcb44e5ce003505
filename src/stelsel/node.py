"""One node: every room put together from one configuration file."""
