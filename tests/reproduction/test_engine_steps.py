"""Steps on an engine: they read the encoder's own vectors and queries, and can be pasted."""

from pathlib import Path

import pytest

from csplade_pyserini import export, retrieve
from csplade_pyserini.reproduction import catalogue
from csplade_pyserini.reproduction.inputs import Inputs
from csplade_pyserini.reproduction.steps import encoder_system, engine_system


@pytest.mark.parametrize("engine", ["qdrant", "milvus"])
@pytest.mark.parametrize("remove_query", [False, True])
def test_an_engine_gets_the_vectors_and_queries_that_lucene_gets(
    engine: str, remove_query: bool, tmp_path: Path
) -> None:
    topics = (
        catalogue.TopicSet(topics="t", metrics=("nDCG@10",)),
        catalogue.TopicSet(topics="u", name="u", metrics=()),
    )
    collection = catalogue.TestCollection(name="c", corpus="c", topics=topics, remove_query=remove_query)
    inputs = Inputs(tmp_path)
    ours = encoder_system("csplade-tiny", inputs, tmp_path / "e", collection, 1)
    system = engine_system(engine, ours, inputs, collection)
    [build] = system.build
    exported = export.parse_args(build.command[3:])
    assert (exported.to, exported.input) == (engine, ours.build[0].output)
    assert build.output == exported.output.with_name("target.manifest.json")
    assert system.folder != ours.folder
    for key in ours.searches:
        [step] = system.searches[key]
        searched = retrieve.parse_args(step.command[3:])
        assert (searched.engine, searched.target) == (engine, exported.output)
        assert searched.output == step.output == system.run(key)
        assert searched.encoder == str(ours.queries(key))
        assert Path(searched.topics) in step.reads
        assert (searched.hits, searched.remove_query) == (1000, remove_query)
