"""Other programs under the same measurement, each run by the interpreter of `make bench-peers`; never imported here."""
