"""Paths of the parameter tree, the same for every architecture: `encoder/layers/3/ffn/dense/kernel`.

Paths in a layer hold `{i}` in place of the layer's number, from 0: `FFN_DENSE.format(i=3)`.
"""

import re

ENCODER = "encoder"
EMBEDDINGS = f"{ENCODER}/embeddings"
LAYER = f"{ENCODER}/layers/{{i}}"
ATTENTION = f"{LAYER}/attention"
FFN = f"{LAYER}/ffn"

# Dense layers.
PROJECTION = f"{EMBEDDINGS}/projection"  # from the embeddings' width to the layers', if they differ
QUERY, KEY, VALUE = f"{ATTENTION}/query", f"{ATTENTION}/key", f"{ATTENTION}/value"
ATTENTION_DENSE = f"{ATTENTION}/dense"
FFN_HIDDEN, FFN_GATE, FFN_DENSE = f"{FFN}/hidden", f"{FFN}/gate", f"{FFN}/dense"
POOLER = "pooler"

# LayerNorms: of the embeddings, and after each block's residual.
EMBEDDINGS_NORM = f"{EMBEDDINGS}/norm"
ATTENTION_NORM, FFN_NORM = f"{LAYER}/attention_norm", f"{LAYER}/ffn_norm"
# Modules outside the layers.
OFFSET_NORM = f"{EMBEDDINGS}/offset_norm"
CONVOLUTION = f"{ENCODER}/convolution"  # after the first layer
CONVOLUTION_NORM = f"{CONVOLUTION}/norm"

# Tables.
WORD, POSITION, TOKEN_TYPE = f"{EMBEDDINGS}/word", f"{EMBEDDINGS}/position", f"{EMBEDDINGS}/token_type"
OFFSET = f"{EMBEDDINGS}/offset"

CLASSIFIER = "classifier"

_LAYER = re.compile(LAYER.format(i=r"(\d+)") + "/")


def layer_of(path: str) -> int | None:
    """Returns the number of the layer that the leaf at `path` is in; None if it is outside the layers.

    >>> layer_of("encoder/layers/3/ffn/dense/kernel")
    3
    """
    match = _LAYER.match(path)
    return int(match[1]) if match else None


def without_layer(path: str) -> str:
    """Returns the path with `{i}` in place of the layer's number.

    >>> without_layer("encoder/layers/3/ffn/dense/kernel")
    'encoder/layers/{i}/ffn/dense/kernel'
    """
    return _LAYER.sub(f"{LAYER}/", path)
