"""Java, Lucene indexes and scores, by way of Pyserini."""
