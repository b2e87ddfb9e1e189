"""What a model folder is refused for: every refusal names the file and the key or tensor, and no code is ever run."""

from __future__ import annotations

import json
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sides import VOCABULARY, WIDTH, network, same, stack, strong
from test_families import EXPRESSIBLE
from torch import Tensor
from toy_folders import edit, rewrite

from yuyan.errors import CheckpointCorrupt, ConfigError, DataError, YuyanError
from yuyan.hub import read_model, write_model
from yuyan.models.network import NetworkModule


def written(folder: Path, **settings: Any) -> NetworkModule:
    model = strong(network(decoder=stack()))
    assert write_model(model, folder, **settings) == "llama"
    return model


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path)
    return tmp_path


def refuses(folder: Path, kind: type[YuyanError], *words: str) -> None:
    with pytest.raises(kind) as error:
        read_model(folder)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "quick_gelu"),
        ("rope_scaling", {"rope_type": "longrope", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0, "surprise": 1}),
        ("mixture_size", 8),
        ("quantization_config", {"bits": 4}),
        ("num_key_value_heads", 3),
        ("hidden_size", "24"),
        ("num_hidden_layers", True),
        ("num_hidden_layers", -1),
        ("architectures", ["LlamaForSomethingElse"]),
        ("partial_rotary_factor", 0.5),
    ],
)
def test_a_setting_that_is_not_supported_is_named(folder: Path, key: str, value: object) -> None:
    def change(data: dict[str, Any]) -> None:
        data.pop("rope_parameters")
        data[key] = value

    edit(folder, change)
    named = {"num_key_value_heads": "key-value heads"}.get(key, "num_layers" if value == -1 else key)
    refuses(folder, ConfigError, "config.json", named)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("bert", "BertForNextSentencePrediction"),
        ("bert", "BertForMultipleChoice"),
        ("bert", "BertLMHeadModel"),
        ("roberta", "RobertaForCausalLM"),
        ("electra", "ElectraForMultipleChoice"),
        ("modernbert", "ModernBertForMultipleChoice"),
        ("gpt2", "GPT2DoubleHeadsModel"),
        ("llama", "LlamaForMultipleChoice"),
        ("qwen3", "Qwen3ForMultipleChoice"),
        ("t5", "T5ForSomethingElse"),
    ],
)
def test_a_class_that_is_not_supported_is_named(tmp_path: Path, family: str, name: str) -> None:
    found, config = EXPRESSIBLE[family]
    assert write_model(strong(config), tmp_path) == found
    edit(tmp_path, lambda data: data.update(architectures=[name]))
    refuses(tmp_path, ConfigError, "architectures", name, "not supported")


def test_settings_that_are_off_or_change_nothing_are_passed_over(folder: Path) -> None:
    edit(folder, lambda data: data.update(use_cache=True, transformers_version="9", some_switch=False, other=None))
    read_model(folder)


def test_code_in_a_folder_is_not_run(folder: Path) -> None:
    (folder / "modeling_x.py").write_text("raise SystemExit('run!')")
    edit(folder, lambda data: data.update(auto_map={"AutoModelForCausalLM": "modeling_x.Model"}))
    read_model(folder)


EVENTS: list[str] = []
WATCHED = ("import", "exec", "compile", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect",
           "pickle.find_class", "ctypes.dlopen")  # fmt: skip


def _watch(event: str, given: tuple[Any, ...]) -> None:
    if EVENTS and event in WATCHED:
        EVENTS.append(f"{event} {given[:1]}")
    elif EVENTS and event == "open" and str(given[0]).endswith((".py", ".bin", ".pkl")):
        EVENTS.append(f"opened {given[0]}")


def test_reading_a_folder_runs_imports_and_fetches_nothing(folder: Path) -> None:
    """Seen from inside the interpreter, for a folder with all that ever ran code elsewhere."""
    for name in ("modeling_x", "configuration_x", "tokenization_x", "__init__", "setup", "sitecustomize"):
        (folder / f"{name}.py").write_text("raise SystemExit('run!')")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pkl"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    names = {f"Auto{kind}": f"someone/else--modeling_x.{kind}" for kind in ("Config", "Model", "ModelForCausalLM")}
    edit(folder, lambda data: data.update(auto_map=names, custom_pipelines={}, trust_remote_code=False))
    read_model(folder)  # what a first call imports is no matter of the folder
    sys.addaudithook(_watch)
    EVENTS.append("started")
    try:
        read_model(folder)
    finally:
        found, EVENTS[:] = EVENTS[1:], []
    assert not found and not Path("bomb").exists()


def test_an_unknown_family_is_named(folder: Path) -> None:
    edit(folder, lambda data: data.update(model_type="lama"))
    refuses(folder, ConfigError, "'lama'", "llama")


def test_a_missing_key_is_named(folder: Path) -> None:
    edit(folder, lambda data: data.pop("intermediate_size"))
    refuses(folder, ConfigError, "intermediate_size")


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"model_type": "yuyan"}', "[" * 100_000])
def test_a_config_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    refuses(folder, YuyanError, "config.json")


def test_a_folder_without_config_or_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights")
    refuses(folder, DataError, "model.safetensors")
    (folder / "weights").rename(folder / "model.safetensors")
    (folder / "config.json").unlink()
    refuses(folder, DataError, "config.json")


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size"])
def test_a_size_beyond_the_weights_allocates_nothing(folder: Path, key: str) -> None:
    edit(folder, lambda data: data.update({key: 2**40, "head_dim": 2}))
    refuses(folder, ConfigError, "config.json", "parameters")


def test_tensors_missing_added_renamed_and_of_another_shape(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    original = load_file(folder / "model.safetensors")

    def check(tensors: dict[str, Tensor], *words: str) -> None:
        save_file(tensors, folder / "model.safetensors")
        refuses(folder, DataError, *words)

    check({key: tensor for key, tensor in original.items() if key != name}, "missing", name)
    check(original | {"model.layers.1.adapter.weight": torch.ones(2)}, "model.layers.1.adapter.weight")
    check(original | {"model.layers.2.mlp.up_proj.weight": original[name].clone()}, "model.layers.2.mlp.up_proj.weight")
    renamed = {key.replace("up_proj", "upper_proj"): tensor for key, tensor in original.items()}
    check(renamed, "model.layers.0.mlp.upper_proj.weight")
    check(original | {name: torch.ones(32, WIDTH + 1)}, name, "(32, 25)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(folder: Path, value: float) -> None:
    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors["model.norm.weight"][3] = value
        return tensors

    rewrite(folder, change)
    refuses(folder, CheckpointCorrupt, "model.norm.weight")


def test_a_copy_that_is_none_is_refused(folder: Path) -> None:
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    rewrite(folder, lambda tensors: tensors | {"lm_head.weight": embedding.clone()})
    read_model(folder)
    rewrite(folder, lambda tensors: tensors | {"lm_head.weight": embedding + 1})
    refuses(folder, DataError, "lm_head.weight", "model.embed_tokens.weight")


def test_one_tensor_under_two_names_is_refused(folder: Path) -> None:
    norm = load_file(folder / "model.safetensors")["model.norm.weight"]
    rewrite(folder, lambda tensors: tensors | {"norm.weight": norm.clone()})
    refuses(folder, DataError, "norm.weight", "both")


# ---------------------------------------------------------------- damaged files


def test_every_cut_of_the_weights_is_noticed(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for size in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refuses(folder, CheckpointCorrupt, "model.safetensors")


def header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    data = json.loads(whole[8 : 8 + length])
    change(data)
    text = json.dumps(data).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["model.norm.weight"].update(data_offsets=data["model.embed_tokens.weight"]["data_offsets"]),
        lambda data: data["model.norm.weight"].update(dtype="F99"),
        lambda data: data["model.norm.weight"].update(shape=[2**62]),
        lambda data: data["model.norm.weight"].update(shape=[-1]),
        lambda data: data.pop("model.norm.weight"),
        lambda data: data["model.norm.weight"].update(shape=[2**33, 2**33]),
        lambda data: data["model.norm.weight"].update(data_offsets=[2**63, 2**63 + 96]),
        lambda data: data["model.norm.weight"].update(data_offsets=[96, 0]),
        lambda data: data["model.norm.weight"].update(dtype="I64"),
        lambda data: data.clear(),
    ],
    ids=["overlap", "type", "shape", "negative", "hole", "product", "far", "turned", "type of another size", "empty"],
)
def test_a_header_that_lies_is_refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    header(folder, change)
    refuses(folder, CheckpointCorrupt, "model.safetensors")


def test_a_name_that_is_there_twice_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    text = whole[8 : 8 + length].decode().rstrip()
    again = json.dumps({"model.norm.weight": json.loads(text)["model.norm.weight"]})
    twice = (text[:-1] + "," + again[1:]).encode()
    path.write_bytes(struct.pack("<Q", len(twice)) + twice + whole[8 + length :])
    refuses(folder, CheckpointCorrupt, "model.norm.weight", "twice")


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.float8_e4m3fn])
def test_weights_that_are_no_floating_numbers_are_refused(folder: Path, dtype: torch.dtype) -> None:
    rewrite(folder, lambda t: t | {"model.norm.weight": t["model.norm.weight"].to(dtype)})
    refuses(folder, DataError, "model.norm.weight", str(dtype).removeprefix("torch."), "float32")


def test_a_header_of_any_claimed_size_is_refused(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for size in (2**62, 2**63, 2**40):
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", size) + whole[8:])
        refuses(folder, CheckpointCorrupt, "model.safetensors")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    written(tmp_path, shard_bytes=8_000)
    return tmp_path


def index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    data = json.loads(path.read_text())
    change(data["weight_map"])
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "x.py", ""])
def test_an_index_leads_nowhere_else(shards: Path, name: str) -> None:
    index(shards, lambda listed: listed.update({"model.norm.weight": name}))
    refuses(shards, DataError, "index.json")


def test_an_index_that_does_not_fit_its_files(shards: Path) -> None:
    first = sorted(shards.glob("*.safetensors"))[0]
    index(shards, lambda listed: listed.update({"model.extra.weight": first.name}))
    refuses(shards, CheckpointCorrupt, first.name, "model.extra.weight")
    index(shards, lambda listed: (listed.pop("model.extra.weight"), listed.pop("model.embed_tokens.weight")))
    refuses(shards, DataError, "model.embed_tokens.weight")
    first.unlink()
    refuses(shards, DataError, first.name)


def test_a_truncated_shard_is_named(shards: Path) -> None:
    last = sorted(shards.glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-3])
    refuses(shards, CheckpointCorrupt, last.name)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_link_is_not_followed(folder: Path, name: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    refuses(folder, DataError, name, "symbolic link")


def cached(hub: Path, **settings: Any) -> tuple[Path, NetworkModule]:
    """A snapshot as hubs keep it: links to files named by their hashes."""
    snapshot, blobs = hub / "models--someone--model" / "snapshots" / "0a1b", hub / "models--someone--model" / "blobs"
    for place in (snapshot, blobs):
        place.mkdir(parents=True)
    model = written(snapshot, **settings)
    for number, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(blobs / f"hash{number}")
        file.symlink_to(Path("../../blobs") / f"hash{number}")
    return snapshot, model


@pytest.mark.parametrize("settings", [{}, {"shard_bytes": 8_000}])
def test_a_snapshot_of_a_hubs_cache_is_read(tmp_path: Path, settings: dict[str, Any]) -> None:
    snapshot, model = cached(tmp_path, **settings)
    assert (snapshot / "config.json").is_symlink() and same(read_model(snapshot), model)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize(
    "way", ["elsewhere", "another model", "by way of the blobs", "blobs elsewhere", "nowhere", "circle", "no cache"]
)
def test_a_snapshot_whose_links_lead_elsewhere_is_refused(tmp_path: Path, way: str, name: str) -> None:
    snapshot, _ = cached(tmp_path / "hub")
    link, other = snapshot / name, tmp_path / "other"
    blob = link.resolve()
    if way == "another model":
        other = tmp_path / "hub" / "models--another--model" / "blobs" / "hash"
        other.parent.mkdir(parents=True)
    if way == "blobs elsewhere":
        blob.parent.rename(other)
        blob.parent.symlink_to(other)
    elif way == "no cache":
        snapshot.parents[1].rename(tmp_path / "hub" / "model")
        snapshot = tmp_path / "hub" / "model" / "snapshots" / "0a1b"
    else:
        blob.rename(other)
        at = blob if way in ("by way of the blobs", "circle") else link
        at.unlink(missing_ok=True)
        at.symlink_to({"nowhere": "nothing", "circle": link}.get(way, other))
    all_links = way in ("blobs elsewhere", "no cache")
    refuses(snapshot, DataError, "symbolic link", *(() if all_links else (name,)))


# ---------------------------------------------------------------- pickles


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("bomb").write_text, ("went off",))


def test_a_pickle_is_read_without_its_code(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = read_model(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert same(read_model(folder), model)
    assert "pytorch_model.bin" in capsys.readouterr().err
    torch.save(tensors | {"x": Bomb()}, folder / "pytorch_model.bin")
    refuses(folder, CheckpointCorrupt, "pytorch_model.bin")
    assert not Path("bomb").exists()
    torch.save([1, 2], folder / "pytorch_model.bin")
    refuses(folder, CheckpointCorrupt, "pytorch_model.bin")
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle")
    refuses(folder, CheckpointCorrupt, "pytorch_model.bin")


def test_safetensors_are_preferred_to_a_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle")
    read_model(folder)
    assert read_model(folder).config.vocab_size == VOCABULARY
