"""Proofs of reliability: long forms of what `make test` shows in seconds. Each is a script; docs/reliability.md has the
last figures."""
