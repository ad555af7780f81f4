"""AdapterHub's adapters: the folder, and how each method lies in it."""
