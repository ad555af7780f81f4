"""Entities: tags of words and what they mean, decoding, scores. Arrays and plain values; no model."""
