"""Other programs under the same measurement, run by the interpreter of `make bench-peers`; never imported here."""
