"""What several tests need: servers, encoders, runs and adapters that are made up."""
