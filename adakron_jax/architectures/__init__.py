"""What tells one encoder from another: its configuration, its parameters' paths and published names."""
