"""Paths of the parameter tree, the same for every architecture: `encoder/layers/ffn/dense/kernel`.

Leaves below LAYERS are stacked, one layer after another along the first axis.
"""

ENCODER = "encoder"
EMBEDDINGS = f"{ENCODER}/embeddings"
LAYERS = f"{ENCODER}/layers"
ATTENTION = f"{LAYERS}/attention"
FFN = f"{LAYERS}/ffn"

# Dense layers.
PROJECTION = f"{EMBEDDINGS}/projection"  # from the embeddings' width to the layers', where they differ
QUERY, KEY, VALUE = f"{ATTENTION}/query", f"{ATTENTION}/key", f"{ATTENTION}/value"
ATTENTION_DENSE = f"{ATTENTION}/dense"
FFN_HIDDEN, FFN_GATE, FFN_DENSE = f"{FFN}/hidden", f"{FFN}/gate", f"{FFN}/dense"
POOLER = "pooler"

# LayerNorms: of the embeddings, and after each block's residual.
EMBEDDINGS_NORM = f"{EMBEDDINGS}/norm"
ATTENTION_NORM, FFN_NORM = f"{LAYERS}/attention_norm", f"{LAYERS}/ffn_norm"

# Tables.
WORD, POSITION, TOKEN_TYPE = f"{EMBEDDINGS}/word", f"{EMBEDDINGS}/position", f"{EMBEDDINGS}/token_type"

CLASSIFIER = "classifier"


def is_stacked(path: str) -> bool:
    """Whether the leaf at `path` has a first axis of layers."""
    return path.startswith(f"{LAYERS}/")
