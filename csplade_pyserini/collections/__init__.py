"""Corpora and topics in, collections of vectors out, with manifests and resume."""
