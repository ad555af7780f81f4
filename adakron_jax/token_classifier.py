"""`TokenClassifier`, which finds entities in texts, and `load`, which returns the right classifier for an adapter."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from adakron_jax.classifier import Classifier, TextClassifier, is_text, loaded
from adakron_jax.entities.decode import Decode
from adakron_jax.entities.spans import Entity
from adakron_jax.evaluation.assessment import Assessment
from adakron_jax.problems import Problem


class TokenClassifier(Classifier):
    """A trained adapter that finds entities, on its encoder, with the tokenizer. Several threads may use one at once.

    >>> import adakron_jax as ak
    >>> finder = ak.TokenClassifier.load("runs/people")
    >>> text = "Anna lives in Ulm."
    >>> all(entity.text == text[entity.start : entity.end] for entity in finder.predict(text))
    True

    Attributes:
      model, params, card, tokenizer: as in `TextClassifier`.
    """

    reads = "token"
    accepted = "texts alone, or lists of words throughout"
    elsewhere = "an adapter that finds entities; ak.TextClassifier and ak.load take this one"

    @overload
    def predict(self, texts: str, *, decode: Decode = ...) -> list[Entity]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def predict(self, texts: Iterator[str | list[str]], *, decode: Decode = ...) -> Iterator[list[Entity]]: ...
    @overload
    def predict(self, texts: Iterable[str | list[str]], *, decode: Decode = ...) -> list[list[Entity]]: ...
    @overload
    def predict(self, texts: Any, *, decode: Decode = ...) -> Any: ...
    def predict(self, texts: Any, *, decode: str = "viterbi") -> Any:
        """Returns the entities of one text, or those of several in their order.

        A text of more tokens than the model reads is cut into overlapping windows, so that nothing is lost. Offsets
        count characters of the text as given; for a list of words, of the words joined by spaces.

        Args:
          texts: a text; any iterable of texts, or of lists of words, which gives a list; an iterator of them, which
            gives an iterator that reads on only as it is read; or a frame, which gives a frame with a column
            `entities`, as in `TextClassifier.predict`.
          decode: `viterbi` takes the most probable valid sequence of tags; `argmax` takes the most probable tag of each
            word, where an inside tag that nothing began starts an entity.

        Raises:
          ValueError: an item is neither a text nor a list of words, or both are mixed.
        """
        return self._predict(texts, self._decoding(decode))

    def evaluate(
        self, texts: Iterable[str | list[str]] | Any, labels: Iterable[Any] | None = None, *, decode: str = "viterbi"
    ) -> Assessment:
        """Computes entity precision, recall and F1 with their intervals, and counts the errors by kind.

        Args:
          texts: several texts as in `predict`, or a frame.
          labels: for each text a list of tags, one per word, or a list of spans `{"start", "end", "label"}`; by default
            the frame's labels, in the column that was trained on.
          decode: as in `predict`.

        Raises:
          ValueError: there is no text, not one list for each text, or a kind that the adapter does not have.
        """
        return self._evaluate(texts, labels, self._decoding(decode))

    def _decoding(self, decode: str) -> Problem:
        return dataclasses.replace(self.problem, decode=decode)

    @staticmethod
    def parts(text: Any) -> tuple[Any] | None:
        valid = is_text(text) or isinstance(text, list) and all(is_text(word) and word.strip() for word in text)
        return (text,) if valid else None


def load(
    run: str | Path, base: str = "", *, dtype: Any = "auto", trust: str | Sequence[str] = ()
) -> TextClassifier | TokenClassifier:
    """Loads the classifier of a run or an adapter, of the kind that its card names.

    >>> import adakron_jax as ak
    >>> type(ak.load("runs/reviews")).__name__, type(ak.load("runs/people")).__name__
    ('TextClassifier', 'TokenClassifier')

    Args:
      run, base, dtype, trust: as in `TextClassifier.load`.

    Raises:
      ValueError: as in `TextClassifier.load`.
    """
    parts = loaded(run, base, dtype, trust)
    return (TokenClassifier if parts[0].reads == "token" else TextClassifier)(*parts)
