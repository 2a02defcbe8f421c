"""Java, Lucene indexes and scores, through Pyserini."""
