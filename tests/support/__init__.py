"""What several tests share: made-up servers, encoders, runs and adapters."""
