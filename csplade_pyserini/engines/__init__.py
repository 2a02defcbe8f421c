"""Distributed search engines: a collection's vectors into them, and topics to a run out of them."""
