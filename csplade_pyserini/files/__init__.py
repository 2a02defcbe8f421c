"""Files. Stub: lead replaces."""
