"""The arithmetic of rank_features, by Lucene's FeatureField itself."""

import pytest
from engines.recording_server import MOST_BOOST, feature_value

from csplade_pyserini.engines.bulk import FEATURE_BITS, feature_limits
from csplade_pyserini.engines.preflight import significant_bits
from csplade_pyserini.lucene.classes import cast_to
from csplade_pyserini.lucene.java import prepare_java

IMPACTS = [1, 2, 3, 100, 255, 511, 512, 513, 514, 515, 767, 940, 941, 1023, 1024, 5001, 65_537]


@pytest.mark.jvm
def test_feature_field_keeps_nine_bits_and_takes_weights_up_to_64() -> None:
    prepare_java()
    import pyserini.pyclass
    from jnius import JavaException

    load = pyserini.pyclass.autoclass
    feature_field = load("org.apache.lucene.document.FeatureField")
    directory = load("org.apache.lucene.store.ByteBuffersDirectory")()
    config = load("org.apache.lucene.index.IndexWriterConfig")()
    writer = load("org.apache.lucene.index.IndexWriter")(directory, config)
    for number, impact in enumerate(IMPACTS):
        document = load("org.apache.lucene.document.Document")()
        document.add(feature_field("v", f"t{number}", float(impact)))
        writer.addDocument(document)
    writer.close()
    reader = load("org.apache.lucene.index.DirectoryReader").open(directory)
    context = cast_to("org.apache.lucene.index.IndexReaderContext", reader.getContext())
    searcher = load("org.apache.lucene.search.IndexSearcher")(context)
    for number, impact in enumerate(IMPACTS):
        for weight in (0.5, 1.0, MOST_BOOST):
            query = feature_field.newLinearQuery("v", f"t{number}", weight)
            [hit] = searcher.search(query, 5).scoreDocs
            assert hit.score == weight * feature_value(impact)
        assert (hit.score == weight * impact) == (significant_bits(impact) <= FEATURE_BITS)
    assert feature_limits("any").query_weight == MOST_BOOST
    with pytest.raises(JavaException):
        feature_field.newLinearQuery("v", "t0", MOST_BOOST + 0.5)
    reader.close()
