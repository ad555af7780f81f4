"""`TokenClassifier`: texts in, entities out; and `load`, which gives the classifier that an adapter is for."""

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
    """A trained adapter that finds entities, on its encoder, and the tokenizer. Several threads may use one at once.

    >>> import adakron_jax as ak
    >>> finder = ak.TokenClassifier.load("runs/people")
    >>> text = "Anna lives in Ulm."
    >>> all(entity.text == text[entity.start : entity.end] for entity in finder.predict(text))
    True

    Attributes:
      model, params, card, tokenizer: as `TextClassifier` has them.
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
        """The entities of one text, or those of many in their order.

        A text of more tokens than the model reads is cut into windows that overlap, and nothing of it is lost. Offsets
        are characters of the text as it is given; of a list of words, of these with a space between.

        Args:
          texts: a text; any iterable of texts, or of lists of words, for a list; an iterator of them, for an iterator
            that reads on only as it is read; or a frame, for one of a column `entities`, as `TextClassifier.predict`
            takes it.
          decode: `viterbi` takes the most probable tags of those sequences that are valid; `argmax` the most probable
            tag of each word, of which one inside of an entity that nothing began begins one.

        Raises:
          ValueError: something is neither a text nor a list of words, or both are mixed.
        """
        return self._predict(texts, self._decoding(decode))

    def evaluate(
        self, texts: Iterable[str | list[str]] | Any, labels: Iterable[Any] | None = None, *, decode: str = "viterbi"
    ) -> Assessment:
        """Entity precision, recall and F1 with their intervals, and which errors there are.

        Args:
          texts: as `predict` takes several, or a frame.
          labels: of each text a list of tags, one a word, or a list of spans `{"start", "end", "label"}`; by default
            those of the frame, in the column that was trained on.
          decode: as `predict` takes it.

        Raises:
          ValueError: there is no text, not one list for each, or one with a kind that the adapter does not have.
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
    """The classifier of a run's folder, or of an adapter's: of whichever kind it is, as its card says.

    >>> import adakron_jax as ak
    >>> type(ak.load("runs/reviews")).__name__, type(ak.load("runs/people")).__name__
    ('TextClassifier', 'TokenClassifier')

    Args:
      run, base, dtype, trust: as `TextClassifier.load` takes them.

    Raises:
      ValueError: as there.
    """
    parts = loaded(run, base, dtype, trust)
    return (TokenClassifier if parts[0].reads == "token" else TextClassifier)(*parts)
