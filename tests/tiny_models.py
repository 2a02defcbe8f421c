"""Tiny random models, built in memory, of the architectures that the laws are stated for."""

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

TEXTS = [
    "Myocardial infarction often announces itself with chest pain.",
    "pain",
    "Bananas are rich in potassium, and so are potatoes, spinach, beans "
    "and many a fish that swims in cold water.",
    "heart attack",
    "How much potassium is in a banana? About 400 mg.",
]
VOCABULARY = 512
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
ARCHITECTURES = {
    "llama": lambda **kw: LlamaConfig(
        **_SHAPE | {"num_key_value_heads": 2, "tie_word_embeddings": True} | kw
    ),
    "qwen2": lambda **kw: Qwen2Config(**_SHAPE | {"num_key_value_heads": 2} | kw),
    "qwen3": lambda **kw: Qwen3Config(**_SHAPE | {"num_key_value_heads": 2, "head_dim": 8} | kw),
    "mistral": lambda **kw: MistralConfig(**_SHAPE | {"num_key_value_heads": 2, "sliding_window": None} | kw),
    "mistral-window": lambda **kw: MistralConfig(
        **_SHAPE | {"num_key_value_heads": 2, "sliding_window": 64} | kw
    ),
    "opt": lambda **kw: OPTConfig(**_SHAPE | {"ffn_dim": 64, "word_embed_proj_dim": 32} | kw),
    "gpt2": lambda **kw: GPT2Config(
        **{"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4} | kw
    ),
}


def tiny_model(
    architecture: str, *, implementation: str = "sdpa", seed: int = 0, **config: object
) -> PreTrainedModel:
    """A random model of a few thousand parameters; weights large enough that every part matters."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        ARCHITECTURES[architecture](**config), attn_implementation=implementation
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model.eval()
