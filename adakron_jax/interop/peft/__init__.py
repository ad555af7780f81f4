"""peft's adapters: the folder, and each method's form in it."""
