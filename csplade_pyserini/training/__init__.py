"""The paper's two phases, adaptation and contrastive training, on Hugging Face Trainer (extra `[train]`)."""
