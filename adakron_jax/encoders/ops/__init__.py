"""The operations of encoders: matmuls, attention, its fused kernel, dropout, LayerNorm."""
