"""Corpora and topics in, JsonVectorCollection files and their manifests out. No Java."""
