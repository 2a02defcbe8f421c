"""Cards of public relatives, against tiny random models in their repositories' layout and a slow twin.

Lion-SP: github.com/HansiZeng/scaling-retriever; LACONIC:
github.com/zhichaoxu-shufe/laconic-sparse-retrieval. Offline, out of a
folder laid out as the hub's cache, under the names that the cards have.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from programs import run_python
from tiny_models import TEXTS, tiny_model
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from csplade_pyserini.cards import find_card

LACONIC = {
    "laconic-1b": "utahnlp/laconic-1b",
    "laconic-3b": "utahnlp/laconic-3b",
    "laconic-8b": "utahnlp/laconic-8b",
}
LION = {
    "lion-sp-1b": ("hzeng/Lion-SP-1B-llama3-marco-mntp", "meta-llama/Llama-3.2-1B"),
    "lion-sp-8b": ("hzeng/Lion-SP-8B-llama3-marco-mntp", "meta-llama/Meta-Llama-3-8B"),
}
BROKEN_BASE = "/home/someone/llama-3-8b"
"""Base in Lion-SP-8B's adapter_config.json: a folder of the machine that made it."""
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ENCODE = """
import json, sys
from csplade_pyserini import load_encoder
names, texts = json.loads(sys.argv[1])
encoders = {name: load_encoder(name, device="cpu", dtype="float32") for name in names}
found = {name: [e.encode_documents(texts), e.encode_queries(texts)] for name, e in encoders.items()}
print(json.dumps(found))
"""
Vectors = list[dict[str, int]]


def snapshot(cache: Path, name: str) -> Path:
    """A new folder where huggingface_hub's cache has the files of a repository."""
    repository = cache / "hub" / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    folder = repository / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def llama_tokenizer(byte_tokenizer, tmp_path_factory) -> Path:
    """Files of a tokenizer that puts BOS before every text by itself, as Llama 3's does."""
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder)("a")["input_ids"][0] == tokenizer.bos_token_id
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory, llama_tokenizer) -> Path:
    """$HF_HOME with all repositories that the cards name."""
    cache = tmp_path_factory.mktemp("hf")
    for seed, name in enumerate(LACONIC.values()):  # full weights, no tokenizer files
        tiny_model("llama", seed=seed, tie_word_embeddings=False).to(torch.bfloat16).save_pretrained(
            snapshot(cache, name)
        )
    shutil.copytree(llama_tokenizer, snapshot(cache, "unsloth/Llama-3.2-1B"), dirs_exist_ok=True)
    tiny_model("llama").config.save_pretrained(files_of(cache, "unsloth/Llama-3.2-1B"))
    for seed, (adapter, base) in enumerate(
        LION.values()
    ):  # an adapter over gated weights, with the tokenizer beside it
        model = tiny_model("llama", seed=10 + seed)
        model.save_pretrained(snapshot(cache, base))
        torch.manual_seed(seed)
        lora = LoraConfig(
            r=4, lora_alpha=8, target_modules=TARGETS, init_lora_weights=False, task_type="CAUSAL_LM"
        )
        folder = snapshot(cache, adapter)
        get_peft_model(model, lora).save_pretrained(folder)
        model.config.save_pretrained(folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = BROKEN_BASE if "8B" in adapter else base
        (folder / "adapter_config.json").write_text(json.dumps(config))
        shutil.copytree(llama_tokenizer, folder, dirs_exist_ok=True)
    return cache


@pytest.fixture(scope="module")
def encoded(hub) -> dict[str, tuple[Vectors, Vectors]]:
    """Vectors of documents and queries by each encoder, from a process that sees the hub's cache alone."""
    result = run_python("-c", ENCODE, json.dumps([[*LACONIC, *LION], TEXTS]), HF_HOME=str(hub))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def files_of(hub: Path, name: str) -> Path:
    return hub / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / ("0" * 40)


@torch.inference_mode()
def twin(model, rows: list[list[int]], scale: float = 1.0, *, left_padded: bool = False) -> torch.Tensor:
    """(B, V) weights with all of a text seen from everywhere, by a mask that says so in full."""
    longest = max(map(len, rows))
    weights = []
    for row in rows:
        padding = longest - len(row) if left_padded else 0
        ids = torch.tensor([[0] * padding + row])
        mask = torch.zeros(1, 1, ids.shape[1], ids.shape[1])
        mask[..., :padding] = torch.finfo(torch.float32).min
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, padding:]
        weights.append(torch.log1p(torch.relu((logits * scale).amax(dim=0))))
    return torch.stack(weights)


def assert_same(vectors: list[dict[str, int]], weights: torch.Tensor, tokenizer, top: int = 0) -> None:
    """Impacts are the weights times 100, give or take the rounding of a float's last digit."""
    for vector, row in zip(vectors, weights, strict=True):
        assert vector
        assert len(vector) <= top if top else True
        impacts = {tokenizer.convert_ids_to_tokens(i): float(100 * row[i]) for i in range(len(tokenizer))}
        least = min(vector.values()) if top and len(vector) == top else 1
        assert {term for term, impact in impacts.items() if impact > least + 0.6} <= vector.keys()
        for term, impact in vector.items():
            assert impact == pytest.approx(impacts[term], abs=0.51)


@pytest.mark.parametrize("name", LACONIC)
def test_laconic_has_no_bos_prefixes_and_another_repositorys_tokenizer(hub, encoded, name):
    model = AutoModelForCausalLM.from_pretrained(
        files_of(hub, LACONIC[name]), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(files_of(hub, "unsloth/Llama-3.2-1B"))
    assert not list(files_of(hub, LACONIC[name]).glob("*token*"))
    for prefix, vectors in zip(("passage: ", "query: "), encoded[name], strict=True):
        rows = [tokenizer(prefix + text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        assert_same(vectors, twin(model, rows), tokenizer, top=512)
        with_bos = twin(model, [[tokenizer.bos_token_id, *row] for row in rows])
        with pytest.raises(AssertionError):
            assert_same(vectors, with_bos, tokenizer, top=512)


@pytest.mark.parametrize("name", LION)
def test_lion_sp_keeps_bos_scales_its_logits_and_finds_its_base(hub, encoded, name):
    adapter, base = LION[name]
    model = AutoModelForCausalLM.from_pretrained(
        files_of(hub, base), dtype=torch.float32, attn_implementation="eager"
    )
    model = PeftModel.from_pretrained(model, str(files_of(hub, adapter))).eval()
    tokenizer = AutoTokenizer.from_pretrained(files_of(hub, adapter))
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    assert all(row[0] == tokenizer.bos_token_id for row in rows)
    scale = find_card(name).logit_scale
    weights = twin(model, rows, scale)
    # Lion pads on the left; its positions are relative, so that this moves nothing but a float's last digits.
    assert torch.allclose(twin(model, rows, scale, left_padded=True), weights, atol=1e-4)
    for vectors in encoded[name]:
        assert_same(vectors, weights, tokenizer)
        with pytest.raises(AssertionError):
            assert_same(vectors, twin(model, [row[1:] for row in rows], scale), tokenizer)


@pytest.mark.parametrize(("name", "hidden_size"), [("lion-sp-1b", 2048), ("lion-sp-8b", 4096)])
def test_lion_sps_scale_is_that_of_its_hidden_size(name, hidden_size):
    """scaling-retriever: logits times hidden_size ** -0.25, at inference as in training."""
    assert find_card(name).logit_scale == pytest.approx(hidden_size**-0.25, abs=1e-7)


def test_lengths_are_those_of_their_own_code():
    """LACONIC: 256 tokens. Lion-SP on MS MARCO: 64 and 192 with BOS, which our lengths do not count."""
    for name in LACONIC:
        assert (find_card(name).query_max_length, find_card(name).document_max_length) == (256, 256)
    for name in LION:
        assert (find_card(name).query_max_length + 1, find_card(name).document_max_length + 1) == (64, 192)


def test_without_the_base_the_name_of_what_is_missing_is_told(hub, tmp_path):
    shutil.copytree(
        hub, tmp_path / "hf", ignore=shutil.ignore_patterns("models--meta-llama--Meta-Llama-3-8B")
    )
    result = run_python("-c", ENCODE, json.dumps([["lion-sp-8b"], []]), HF_HOME=str(tmp_path / "hf"))
    assert result.returncode
    assert "cannot load the weights of meta-llama/Meta-Llama-3-8B" in result.stderr
    assert BROKEN_BASE not in result.stderr
