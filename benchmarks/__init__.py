"""Measurements of speed and reliability; not part of the tests."""
