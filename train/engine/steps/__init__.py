"""What runs on the devices: the step, its optimiser, and where its arrays live."""
