"""The room `privacy`."""
