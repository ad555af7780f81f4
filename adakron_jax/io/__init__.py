"""What comes in and goes out: typed fields, files, streams, and the wording of messages."""
