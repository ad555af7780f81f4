"""The hub's path from end to end: the hub's own client in a process of its own, against a server on this machine.

The client's process has a guard: it resolves no name but 127.0.0.1, and counts the seconds it would wait rather than
waiting them.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file, save

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders import pretrained
from tests.support.hub_server import HubServer, Repositories
from train.data.glue import TASKS
from train.data.sources import HUB

ROOT = Path(__file__).parents[2]
CLIENT = """
import json, socket, sys, time

waits = []
time.sleep = waits.append
resolve = socket.getaddrinfo

def only_here(host, *args, **kwargs):
    if host not in ("127.0.0.1", b"127.0.0.1"):
        raise socket.gaierror(socket.EAI_NONAME, "no network in the tests")
    return resolve(host, *args, **kwargs)

socket.getaddrinfo = only_here

from adakron_jax.encoders import pretrained
from adakron_jax.hub.models import locate, locate_config
from adakron_jax.architectures.config import EncoderConfig
from train.data.glue import TASKS
from train.data.custom_data import CustomData, load
from train.data.sources import split_named, read

def answer(kind, name, split=None):
    if kind == "rows":
        rows = read("hub", TASKS[name], split)
        return {"columns": rows.columns}
    if kind == "own":
        task, rows = load(CustomData("own", name, TASKS["rte"].texts, ("label",), validation="validation"))
        others = bool(split_named(name, "validation")), bool(split_named(name, "dev"))
        return {"labels": task.labels, "rows": {name: part.columns for name, part in rows.items()}, "has": others}
    if kind == "config":
        return {"files": sorted(path.name for path in locate_config(name).iterdir())}
    folder = locate(name)
    config = EncoderConfig.from_folder(folder)
    leaves = pretrained.read(folder, config)
    files = sorted(path.name for path in folder.iterdir())
    return {"files": files, "fingerprint": pretrained.fingerprint(leaves)}

answers = {}
for request in sys.argv[1:]:
    waits.clear()
    try:
        answers[request] = answer(*request.split())
    except ValueError as error:
        answers[request] = {"refused": str(error)}
    answers[request]["waited"] = sum(waits)
print("\\n" + json.dumps(answers))
"""

TABLES = {
    "rte/train": {"sentence1": ["It rained.", "Ünal won."], "sentence2": ["It was wet.", "He lost."], "label": [0, 1]},
    "rte/validation": {"sentence1": ["Snow fell."], "sentence2": ["It was hot."], "label": [1]},
    "mnli/train": {"premise": ["A dog."], "hypothesis": ["A cat."], "label": [2]},
    "mnli/validation_matched": {"premise": ["A man sings."], "hypothesis": ["A man is loud."], "label": [1]},
    "mnli/validation_mismatched": {"premise": ["A sea."], "hypothesis": ["Water."], "label": [0]},
}
MODELS = {f"model acme/{name}-bert": name for name in ("tiny", "sharded")}
CACHED = ["rows rte train", "rows rte validation", "rows mnli validation_matched", *MODELS]
CACHED.append(OWN := f"own hub:{HUB}:rte")
NOT_CACHED = ["rows sst2 train", "model acme/never-seen"]


def glue() -> dict[str, bytes]:
    """A data set laid out as the hub's GLUE: a card that maps configurations to files, and a file per split."""
    files, configs, infos = {}, [], []
    for name in ("rte", "mnli"):
        splits = {key.split("/")[1]: table for key, table in TABLES.items() if key.startswith(name)}
        for split, table in splits.items():
            buffer = io.BytesIO()
            parquet.write_table(pyarrow.table(table | {"idx": list(range(len(table["label"])))}), buffer)
            files[f"{name}/{split}-00000-of-00001.parquet"] = buffer.getvalue()
        data_files = [{"split": split, "path": f"{name}/{split}-*"} for split in splits]
        names = {str(code): label for code, label in enumerate(TASKS[name].labels)}
        features = [
            *({"name": column, "dtype": "string"} for column in TASKS[name].texts),
            {"name": "label", "dtype": {"class_label": {"names": names}}},
            {"name": "idx", "dtype": "int32"},
        ]
        sizes = [{"name": s, "num_bytes": 1, "num_examples": len(table["label"])} for s, table in splits.items()]
        configs.append({"config_name": name, "data_files": data_files})
        infos.append({"config_name": name, "features": features, "splits": sizes})
    # YAML has JSON within it.
    card = json.dumps({"configs": configs, "dataset_info": infos})
    return {"README.md": f"---\n{card}\n---\n# GLUE\n".encode()} | files


def models(tiny: Path) -> Repositories:
    """One model in every form: whole, sharded, pickled, without a configuration."""
    whole = {path.name: path.read_bytes() for path in tiny.iterdir()} | {"README.md": b"# tiny"}
    rest = {name: contents for name, contents in whole.items() if name != "model.safetensors"}
    tensors = load_file(tiny / "model.safetensors")
    shards: list[dict[str, np.ndarray]] = [{}, {}]
    for i, name in enumerate(tensors):
        shards[i % 2][name] = tensors[name]
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {name: file for file, shard in zip(files, shards, strict=True) for name in shard}}
    return {
        "acme/tiny-bert": whole,
        "acme/sharded-bert": rest
        | {"model.safetensors.index.json": json.dumps(index).encode()}
        | {file: save(shard) for file, shard in zip(files, shards, strict=True)},
        "acme/pickled-bert": rest | {"pytorch_model.bin": b"never loaded"},
        "acme/no-config": {"README.md": b"# nothing"},
    }


def ask(endpoint: str, home: Path, requests: list[str], **variables: str) -> dict[str, Any]:
    """What a client of its own gets for `requests`: request -> answer."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "XDG_"))}
    environment = {k: v for k, v in inherited.items() if not k.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "XDG_CACHE_HOME": str(home)} | variables
    command = [sys.executable, "-c", CLIENT, *requests]
    client = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert client.returncode == 0, client.stderr
    return json.loads(client.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Any]:
    """What clients got: online, then with the server gone, from a filled cache or an empty one."""
    full, empty = (tmp_path_factory.mktemp(name) for name in ("full", "empty"))
    online = [*CACHED, *CACHED, "model acme/pickled-bert", "model acme/no-config", "model acme/nobody"]
    bare = tmp_path_factory.mktemp("config")
    with HubServer({f"datasets/{HUB}": glue()} | models(tiny)) as server:
        got = {"online": ask(server.endpoint, full, online), "log": list(server.requests)}
        got["config"] = ask(server.endpoint, bare, ["config acme/tiny-bert", "config acme/nobody"])
    # Each has a cache of its own: one that two read at once is locked now and then, which the other waits for.
    copy = shutil.copytree(full, tmp_path_factory.mktemp("copy"), symlinks=True, dirs_exist_ok=True)
    with ThreadPoolExecutor() as pool:
        later = {
            "offline": pool.submit(ask, server.endpoint, copy, CACHED + NOT_CACHED, HF_HUB_OFFLINE="1"),
            "unreachable": pool.submit(ask, server.endpoint, full, CACHED + NOT_CACHED),
            "unreachable, empty": pool.submit(ask, server.endpoint, empty, ["rows rte train", "model acme/tiny-bert"]),
        }
    return got | {name: future.result() for name, future in later.items()}


WAYS = ["online", "offline", "unreachable"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("split", ["rte train", "rte validation", "mnli validation_matched"])
def test_a_split_has_the_rows_that_lie_on_the_hub_also_from_the_cache(answers: dict[str, Any], way: str, split: str):
    table = TABLES[split.replace(" ", "/")]
    task = TASKS[split.split()[0]]
    columns = {column: table[column] for column in task.texts}
    columns["label"] = [task.labels[code] for code in table["label"]]
    assert answers[way][f"rows {split}"] == {"columns": columns, "waited": 0}


@pytest.mark.parametrize("way", WAYS)
def test_a_data_set_on_the_hub_is_a_table_of_ones_own_with_its_classes_in_its_order(answers: dict[str, Any], way: str):
    labels, rows = TASKS["rte"].labels, {}
    for split in ("train", "validation"):
        table = TABLES[f"rte/{split}"]
        rows[split] = table | {"label": [labels[code] for code in table["label"]]}
    assert answers[way][OWN] == {"labels": list(labels), "rows": rows, "has": [True, False], "waited": 0}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("request_", MODELS)
def test_a_model_on_the_hub_is_read_whole_or_sharded_also_from_the_cache(
    answers: dict[str, Any], tiny: Path, way: str, request_: str
):
    leaves = pretrained.read(tiny, EncoderConfig.from_folder(tiny))
    answer = answers[way][request_]
    assert answer.get("fingerprint") == pretrained.fingerprint(leaves), answer
    assert {"config.json", "vocab.txt", "tokenizer_config.json"} <= set(answer["files"])
    assert answer["waited"] == 0


def test_everything_is_downloaded_once_however_often_it_is_read(answers: dict[str, Any]):
    downloads = [line for line in answers["log"] if line.startswith("GET") and "/resolve/" in line]
    assert len(downloads) == len(set(downloads))
    for end in ("rte/train-00000-of-00001.parquet", "tiny-bert/resolve/main/model.safetensors"):
        assert len([line for line in downloads if line.endswith(end)]) == 1


def test_nothing_is_downloaded_that_is_not_used(answers: dict[str, Any]):
    downloads = [line.split("/")[-1] for line in answers["log"] if line.startswith("GET acme/tiny-bert/resolve/")]
    assert sorted(downloads) == ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]


def test_a_configuration_is_fetched_without_its_weights(answers: dict[str, Any]):
    assert answers["config"]["config acme/tiny-bert"]["files"] == ["config.json"]
    assert "accepted: a hub id, a folder, or pkg:NAME" in answers["config"]["config acme/nobody"]["refused"]


def test_a_model_with_pickled_weights_only_is_refused_with_how_to_convert_them(answers: dict[str, Any]):
    refusal = answers["online"]["model acme/pickled-bert"]["refused"]
    assert "only pytorch_model.bin, a pickle" in refusal
    assert "never loaded" in refusal
    assert "convert them with" in refusal


def test_a_repository_without_a_configuration_is_refused(answers: dict[str, Any]):
    refusal = answers["online"]["model acme/no-config"]["refused"]
    assert "'acme/no-config'" in refusal
    assert "no config.json" in refusal


def test_an_unknown_model_is_refused_with_the_accepted_forms(answers: dict[str, Any]):
    refusal = answers["online"]["model acme/nobody"]["refused"]
    assert "'acme/nobody'" in refusal
    assert "accepted: a hub id, a folder, or pkg:NAME" in refusal


OUT_OF_REACH = [
    *((way, request) for way in ("offline", "unreachable") for request in NOT_CACHED),
    ("unreachable, empty", "rows rte train"),
    ("unreachable, empty", "model acme/tiny-bert"),
]


@pytest.mark.parametrize(("way", "request_"), OUT_OF_REACH)
def test_what_is_neither_cached_nor_within_reach_is_refused_with_what_to_do(
    answers: dict[str, Any], way: str, request_: str
):
    refusal = answers[way][request_]["refused"]
    advice = ["a folder with TASK/SPLIT files", "--data mini"] if request_.startswith("rows") else ["--model a folder"]
    for part in (*advice, "not in the cache", "copy HF_HOME"):
        assert part in refusal


@pytest.mark.parametrize(("way", "request_"), OUT_OF_REACH)
def test_a_refusal_for_want_of_a_hub_comes_at_once(answers: dict[str, Any], way: str, request_: str):
    assert answers[way][request_]["waited"] == 0
