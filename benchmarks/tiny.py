"""A tiny random BERT with a tokenizer, for what has to be quick: tests, and proofs of reliability."""

from pathlib import Path

from adakron_jax.architectures.config import EncoderConfig
from benchmarks.shapes import write_encoder
from train.data.sources import MINI

TINY = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}


def write_tiny(folder: Path) -> None:
    """Writes a tiny random BERT, as a Hugging Face folder, whose vocabulary is made of `mini`'s characters."""
    texts = (path.read_text(encoding="utf-8").lower() for path in sorted(MINI.glob("*/*.tsv")))
    letters = sorted({letter for text in texts for letter in text if not letter.isspace()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    values = TINY | {"vocab_size": len(vocabulary)}
    write_encoder(EncoderConfig.from_hugging_face(values), folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
