"""The room `steering`."""
