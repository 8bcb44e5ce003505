"""The room `opendata`."""
