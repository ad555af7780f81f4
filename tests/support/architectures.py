"""A tiny encoder of every model type."""

import dataclasses

from adakron_jax.architectures.config import BERT_BASE, EncoderConfig

BERT = dataclasses.replace(
    BERT_BASE,
    vocab_size=50,
    hidden_size=16,
    num_layers=3,
    num_heads=2,
    intermediate_size=32,
    max_position_embeddings=20,
    initializer_range=0.3,
)
ROBERTA = dataclasses.replace(BERT, model_type="roberta", pad_id=1, type_vocab_size=1, layer_norm_eps=1e-5)
MODERNBERT = dataclasses.replace(
    BERT,
    model_type="modernbert",
    type_vocab_size=0,
    layer_norm_eps=1e-5,
    embedding_dropout=0.1,
    pooling="cls",
    global_every=2,
    window=4,
    global_theta=160_000.0,
    local_theta=10_000.0,
)
# Fields of methods whose defaults need a wider encoder.
NARROW = {"vblora": {"vector_length": 16}}
# The sequences in tests are long enough to reach offsets that share a vector.
DEBERTA = dataclasses.replace(
    BERT, model_type="deberta-v2", type_vocab_size=0, layer_norm_eps=1e-7, position_buckets=6, conv_kernel=3
)
TINY: dict[str, EncoderConfig] = {
    config.model_type: config
    for config in (
        BERT,
        ROBERTA,
        dataclasses.replace(ROBERTA, model_type="xlm-roberta"),
        dataclasses.replace(ROBERTA, model_type="camembert"),
        dataclasses.replace(BERT, model_type="distilbert", type_vocab_size=0),
        dataclasses.replace(BERT, model_type="electra", embedding_size=8),
        MODERNBERT,
        DEBERTA,
    )
}
# One encoder for each way to compute: the others differ from RoBERTa only in name.
DISTINCT = [TINY[name] for name in ("bert", "roberta", "distilbert", "electra", "modernbert", "deberta-v2")]
