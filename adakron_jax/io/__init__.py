"""Input and output: typed fields, files, streams, and the wording of messages."""
