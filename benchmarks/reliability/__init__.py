"""Proofs of reliability: long forms of what `make test` shows in seconds; docs/reliability.md has the last figures."""
