"""Entities: tags of words and their meaning, decoding, scores. Arrays and plain values; no model."""
