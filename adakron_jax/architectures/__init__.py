"""What distinguishes encoders: their configuration, their parameters' paths and published names."""
