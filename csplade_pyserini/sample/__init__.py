"""The built-in sample collection: corpus.jsonl, topics.tsv, qrels.txt (README.md says what they are)."""
