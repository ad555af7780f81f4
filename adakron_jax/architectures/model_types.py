"""What distinguishes one `model_type` from another: its `config.json`, its tensors' names, its head. Only tables.

How the layers compute is in `encoders/`, in one file for all types that compute alike. `docs/adding-an-encoder.md`
shows how to add a type.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from adakron_jax.architectures import paths
from adakron_jax.architectures.architecture import Architecture, Form, head_of, linear, stored_as
from adakron_jax.architectures.stored import Stored

_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "pad_id": "pad_token_id",
    "initializer_range": "initializer_range",
}
_DENSES = {
    paths.QUERY: "encoder.layer.{i}.attention.self.query",
    paths.KEY: "encoder.layer.{i}.attention.self.key",
    paths.VALUE: "encoder.layer.{i}.attention.self.value",
    paths.ATTENTION_DENSE: "encoder.layer.{i}.attention.output.dense",
    paths.FFN_HIDDEN: "encoder.layer.{i}.intermediate.dense",
    paths.FFN_DENSE: "encoder.layer.{i}.output.dense",
}
_NORMS = {
    paths.EMBEDDINGS_NORM: "embeddings.LayerNorm",
    paths.ATTENTION_NORM: "encoder.layer.{i}.attention.output.LayerNorm",
    paths.FFN_NORM: "encoder.layer.{i}.output.LayerNorm",
}
_TABLES = {
    paths.WORD: "embeddings.word_embeddings",
    paths.POSITION: "embeddings.position_embeddings",
    paths.TOKEN_TYPE: "embeddings.token_type_embeddings",
}
# Heads of other tasks, and buffers that hold 0, 1, 2, ...
_FOREIGN = r"^(cls|lm_head|classifier|qa_outputs)\.|^embeddings\.(position_ids|token_type_ids)$"

_BERT = Architecture(
    encoder="bert",
    prefix="bert.",
    keys=_SIZES
    | {
        "type_vocab_size": "type_vocab_size",
        "layer_norm_eps": "layer_norm_eps",
        "hidden_dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
        "classifier_dropout": "classifier_dropout",
    },
    # Keys that Google's first configurations leave out.
    unsaid={"pad_token_id": 0, "layer_norm_eps": 1e-12, "initializer_range": 0.02},
    accepted={
        "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    },
    stored=stored_as(_DENSES | {paths.POOLER: "pooler.dense"}, _NORMS, _TABLES),
    foreign=re.compile(_FOREIGN),
    form=Form("linear"),
    head=linear("classifier"),
    pooler=True,
)
_ROBERTA = dataclasses.replace(
    _BERT,
    prefix="roberta.",
    unsaid={"initializer_range": 0.02},  # the published epsilon, 1e-5, is not the configuration class's
    stored=stored_as(_DENSES, _NORMS, _TABLES),
    foreign=re.compile(rf"{_FOREIGN}|^pooler\."),
    form=Form("tanh"),
    head=head_of("classifier.dense", "classifier.out_proj"),
    pooler=False,
    positions="after padding",
)
_ELECTRA = dataclasses.replace(
    _BERT,
    prefix="electra.",
    keys={**_BERT.keys, "embedding_size": "embedding_size"},
    stored=stored_as(_DENSES | {paths.PROJECTION: "embeddings_project"}, _NORMS, _TABLES),
    foreign=re.compile(rf"{_FOREIGN}|^(discriminator_predictions|generator_predictions|generator_lm_head)\."),
    form=Form("gelu"),
    head=head_of("classifier.dense", "classifier.out_proj"),
    pooler=False,
)
_DISTILBERT = dataclasses.replace(
    _BERT,
    prefix="distilbert.",
    keys=_SIZES
    | {
        "hidden_size": "dim",
        "num_layers": "n_layers",
        "num_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "classifier_dropout": "seq_classif_dropout",
    },
    fixed={"type_vocab_size": 0, "layer_norm_eps": 1e-12},
    unsaid={"pad_token_id": 0, "initializer_range": 0.02},
    accepted={"activation": ("gelu",)},
    stored=stored_as(
        {
            paths.QUERY: "transformer.layer.{i}.attention.q_lin",
            paths.KEY: "transformer.layer.{i}.attention.k_lin",
            paths.VALUE: "transformer.layer.{i}.attention.v_lin",
            paths.ATTENTION_DENSE: "transformer.layer.{i}.attention.out_lin",
            paths.FFN_HIDDEN: "transformer.layer.{i}.ffn.lin1",
            paths.FFN_DENSE: "transformer.layer.{i}.ffn.lin2",
        },
        {
            paths.EMBEDDINGS_NORM: "embeddings.LayerNorm",
            paths.ATTENTION_NORM: "transformer.layer.{i}.sa_layer_norm",
            paths.FFN_NORM: "transformer.layer.{i}.output_layer_norm",
        },
        {path: name for path, name in _TABLES.items() if path != paths.TOKEN_TYPE},
    ),
    foreign=re.compile(rf"{_FOREIGN}|^(vocab_transform|vocab_layer_norm|vocab_projector|pre_classifier)\."),
    form=Form("relu", drops_input=False),
    head=head_of("pre_classifier", "classifier"),
    pooler=False,
    drops_attention_output=False,
)


def _modernbert_of_transformers_5(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts `layer_types` and `rope_parameters` to the keys of version 4."""
    values = dict(values)
    kinds = values.pop("layer_types", None)
    if kinds is not None:
        every = next((i for i, kind in enumerate(kinds) if i and kind == "full_attention"), len(kinds))
        if kinds != ["sliding_attention" if i % every else "full_attention" for i in range(len(kinds))]:
            raise ValueError(
                f"layer_types is {kinds}; accepted: full_attention at regular intervals from the first layer"
            )
        values["global_attn_every_n_layers"] = every
    for kind, key in (("full_attention", "global_rope_theta"), ("sliding_attention", "local_rope_theta")):
        rope = (values.get("rope_parameters") or {}).get(kind, {})
        if (turns := rope.get("rope_type", "default")) != "default":
            raise ValueError(f"rope_type is {turns!r}; accepted: default")
        if "rope_theta" in rope:
            values[key] = rope["rope_theta"]
    return values


_MODERNBERT_FORM = Form("gelu", biases=False, normed=True, drops_input=False)
_MODERNBERT_HEAD = {
    f"{paths.CLASSIFIER}/dense/kernel": Stored("head.dense.weight", layout="transposed"),
    f"{paths.CLASSIFIER}/norm/scale": Stored("head.norm.weight"),
    f"{paths.CLASSIFIER}/out_proj/kernel": Stored("classifier.weight", layout="transposed"),
    f"{paths.CLASSIFIER}/out_proj/bias": Stored("classifier.bias"),
}
_MODERNBERT = Architecture(
    encoder="modernbert",
    prefix="model.",
    keys=_SIZES
    | {
        "layer_norm_eps": "norm_eps",
        "hidden_dropout": "mlp_dropout",
        "embedding_dropout": "embedding_dropout",
        "attention_dropout": "attention_dropout",
        "classifier_dropout": "classifier_dropout",
        "pooling": "classifier_pooling",
        "global_every": "global_attn_every_n_layers",
        "window": "local_attention",
        "global_theta": "global_rope_theta",
        "local_theta": "local_rope_theta",
    },
    fixed={"type_vocab_size": 0},
    unsaid={},
    accepted={
        "hidden_activation": ("gelu",),
        "classifier_activation": ("gelu",),
        "classifier_pooling": ("cls", "mean"),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "norm_bias": (False,),
        "classifier_bias": (False,),
    },
    stored={
        f"{paths.WORD}/embedding": Stored("embeddings.tok_embeddings.weight"),
        f"{paths.EMBEDDINGS_NORM}/scale": Stored("embeddings.norm.weight"),
        f"{paths.QUERY}/kernel": Stored("layers.{i}.attn.Wqkv.weight", layout="transposed", part=0, of=3),
        f"{paths.KEY}/kernel": Stored("layers.{i}.attn.Wqkv.weight", layout="transposed", part=1, of=3),
        f"{paths.VALUE}/kernel": Stored("layers.{i}.attn.Wqkv.weight", layout="transposed", part=2, of=3),
        f"{paths.ATTENTION_DENSE}/kernel": Stored("layers.{i}.attn.Wo.weight", layout="transposed"),
        f"{paths.FFN_HIDDEN}/kernel": Stored("layers.{i}.mlp.Wi.weight", layout="transposed", part=0, of=2),
        f"{paths.FFN_GATE}/kernel": Stored("layers.{i}.mlp.Wi.weight", layout="transposed", part=1, of=2),
        f"{paths.FFN_DENSE}/kernel": Stored("layers.{i}.mlp.Wo.weight", layout="transposed"),
        # A block's LayerNorm precedes it, so it comes after the residual of the previous block.
        f"{paths.ATTENTION_NORM}/scale": Stored("layers.{i}.mlp_norm.weight"),
        f"{paths.FFN_NORM}/scale": Stored("layers.{next}.attn_norm.weight", last="final_norm.weight"),
    },
    foreign=re.compile(r"^(head|decoder|classifier)\."),
    form=_MODERNBERT_FORM,
    head=_MODERNBERT_HEAD,
    token_form=_MODERNBERT_FORM,
    token_head=_MODERNBERT_HEAD,
    pretrained_head=(f"{paths.CLASSIFIER}/dense/kernel", f"{paths.CLASSIFIER}/norm/scale"),
    positions="rotary",
    biases=False,
    respell=_modernbert_of_transformers_5,
)


def _deberta_as_published(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts `pos_att_type` to the published string, and refuses values that contradict other keys."""
    values = dict(values)
    kinds = values.get("pos_att_type") or []
    kinds = kinds.split("|") if isinstance(kinds, str) else kinds
    values["pos_att_type"] = "|".join(sorted(map(str, kinds), reverse=True)) if isinstance(kinds, list) else kinds
    width, heads = values.get("hidden_size"), values.get("num_attention_heads")
    if isinstance(width, int) and isinstance(heads, int) and heads:
        for key, implied in (
            *(("pooler_hidden_size", width), ("embedding_size", width)),
            ("attention_head_size", width // heads),
        ):
            if (said := values.get(key, implied)) != implied:
                raise ValueError(f"{key} is {said!r}; accepted: {implied}")
    if not values.get("conv_kernel_size"):
        values |= {"conv_kernel_size": 0, "conv_act": "gelu"}
    return values


_DEBERTA = dataclasses.replace(
    _BERT,
    encoder="deberta",
    prefix="deberta.",
    keys={field: key for field, key in _BERT.keys.items() if field != "type_vocab_size"}
    | {
        "classifier_dropout": "cls_dropout",
        "position_buckets": "position_buckets",
        "max_relative_positions": "max_relative_positions",
        "conv_kernel": "conv_kernel_size",
    },
    fixed={"type_vocab_size": 0},
    # The configuration class's defaults.
    unsaid={
        "pad_token_id": 0,
        "layer_norm_eps": 1e-7,
        "initializer_range": 0.02,
        "relative_attention": False,
        "share_att_key": False,
        "norm_rel_ebd": "none",
        "position_biased_input": True,
        "position_buckets": -1,
        "max_relative_positions": -1,
        "conv_act": "tanh",
    },
    accepted={
        "hidden_act": ("gelu",),
        "relative_attention": (True,),
        "pos_att_type": ("p2c|c2p",),
        "share_att_key": (True,),
        "norm_rel_ebd": ("layer_norm",),
        "position_biased_input": (False,),
        "type_vocab_size": (0,),
        "conv_act": ("gelu",),
        "conv_groups": (1,),
        "pooler_hidden_act": ("gelu",),
        "pooler_dropout": (0,),
    },
    stored=stored_as(
        {path: re.sub(r"(query|key|value)$", r"\1_proj", name) for path, name in _DENSES.items()}
        | {paths.CONVOLUTION: "encoder.conv.conv"},
        _NORMS | {paths.OFFSET_NORM: "encoder.LayerNorm", paths.CONVOLUTION_NORM: "encoder.conv.LayerNorm"},
        {paths.WORD: _TABLES[paths.WORD], paths.OFFSET: "encoder.rel_embeddings"},
    ),
    foreign=re.compile(rf"{_FOREIGN}|^(pooler|lm_predictions|mask_predictions)\.|^embeddings\.position_embeddings\."),
    form=Form("gelu", drops_input=False),
    head=head_of("pooler.dense", "classifier"),
    pooler=False,
    positions="offsets",
    respell=_deberta_as_published,
)

ARCHITECTURES = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "electra": _ELECTRA,
    "modernbert": _MODERNBERT,
    "deberta-v2": _DEBERTA,
}
