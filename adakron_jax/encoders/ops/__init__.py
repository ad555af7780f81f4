"""What encoders compute with: matmuls, attention, its fused kernel, dropout, LayerNorm."""
