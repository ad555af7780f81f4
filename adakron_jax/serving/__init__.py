"""An HTTP server over a bank of adapters (extra `serve`)."""
