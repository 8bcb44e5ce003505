"""Agreements: what peers signed, and the only source of authority."""
