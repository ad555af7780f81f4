"""The campaign on a machine with a GPU: one driver, its parts, and the folder that must travel there."""
