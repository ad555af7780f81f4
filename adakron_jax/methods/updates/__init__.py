"""Methods that update frozen matrices, y = x (W + ΔW) + b, and fuse into them; `lora.py` holds the shared base."""
