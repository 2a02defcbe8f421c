import os
from pathlib import Path

import pytest

from csplade_pyserini.collections.manifests import manifest_path


@pytest.mark.parametrize("words", [".", "..", "inner/..", "inner/../../index", "/index"])
def test_a_manifest_is_beside_what_it_is_of_however_that_is_called(tmp_path, monkeypatch, words):
    (tmp_path / "index" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "index")
    real = Path(os.path.realpath(words))
    assert Path(os.path.realpath(manifest_path(Path(words)))) == real.parent / f"{real.name}.manifest.json"
