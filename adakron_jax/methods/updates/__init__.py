"""Methods that update frozen matrices, y = x (W + ΔW) + b, and so fuse into them. `lora.py` has what all share."""
