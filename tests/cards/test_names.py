import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest

from csplade_pyserini.cards import (
    Checkpoint,
    EncoderCard,
    EncoderOptions,
    checkpoints,
    find_card,
    find_checkpoint,
    is_ours,
    names,
    near_misses,
    parse_encoder_name,
    read_card,
    shipped_cards,
    weight_folders,
    with_options,
    write_card,
)
from csplade_pyserini.errors import InputError

CONTRACT = [
    *("csplade-1b", "csplade-echo-1b", "csplade-bi-1b", "csplade-8b", "csplade-echo-8b", "csplade-bi-8b"),
    *("laconic-1b", "laconic-3b", "laconic-8b", "lion-sp-1b", "lion-sp-8b"),
    *("csplade-tiny", "csplade-bi-smol"),
]
"""The cards that ship."""
KEYS = "device, dtype, quantization, max_length, top_terms, query_prefix, document_prefix, query, revision"
NOT_LOADED = ("torch", "transformers", "peft", "pyserini", "jnius", "jnius_config")


@pytest.fixture(autouse=True)
def _no_hub_and_an_empty_home(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("CSPLADE_HOME", str(tmp_path / "home"))
    names._hub_card.cache_clear()
    yield
    names._hub_card.cache_clear()


def make_checkpoint(
    folder: Path, *, weights: bytes | None = b"weights", card: EncoderCard | None = None
) -> Path:
    """A folder as train writes it, with weights that nobody loads."""
    folder.mkdir(parents=True)
    if card is not None:
        write_card(card, folder / "card.toml")
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_the_cards_of_the_contract_ship_and_no_others():
    assert sorted(shipped_cards()) == sorted(CONTRACT)


def test_every_card_file_is_named_after_its_card():
    files = sorted(names.cards_folder().glob("*.toml"))
    assert [file.stem for file in files] == [read_card(file).name for file in files]
    assert len(files) == len(CONTRACT)


def test_no_two_cards_share_a_name_or_an_alias():
    owner: dict[str, str] = {}
    for card in shipped_cards().values():
        for name in {card.name.lower(), *map(str.lower, card.aliases)}:
            assert owner.setdefault(name, card.name) == card.name


def test_every_shipped_card_tells_what_it_is_and_where_it_is_from():
    for card in shipped_cards().values():
        assert all((card.summary, card.source, card.licence)), card.name
        assert (card.weights == "hub") != bool(card.install), (
            f"{card.name}: weights that are not public need 'install', others do not"
        )
        assert card.weights == "folder" or card.base, card.name


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("csplade-tiny", "csplade-tiny", EncoderOptions()),
        ("naver/splade-v3", "naver/splade-v3", EncoderOptions()),
        ("csplade-tiny:device=cpu", "csplade-tiny", EncoderOptions(device="cpu")),
        (
            "csplade-tiny:dtype=float16,max_length=128",
            "csplade-tiny",
            EncoderOptions(dtype="float16", max_length=128),
        ),
        (
            "a/b:quantization=none,top_terms=0,device=cuda",
            "a/b",
            EncoderOptions(quantization="none", top_terms=0, device="cuda"),
        ),
        ("csplade-tiny:device=cuda:1", "csplade-tiny", EncoderOptions(device="cuda:1")),
        ("a/b:device=cuda:1,top_terms=9", "a/b", EncoderOptions(device="cuda:1", top_terms=9)),
        (
            "a/b:max_length=255,document_prefix=query: ,query_prefix=",
            "a/b",
            EncoderOptions(max_length=255, document_prefix="query: ", query_prefix=""),
        ),
        ("C:\\models:device=cpu", "C:\\models", EncoderOptions(device="cpu")),
        ("csplade-tiny-lookup", "csplade-tiny", EncoderOptions(query="lookup")),
        ("CSPLADE-8B-Lookup:top_terms=9", "CSPLADE-8B", EncoderOptions(query="lookup", top_terms=9)),
        ("csplade-8b:query=lookup", "csplade-8b", EncoderOptions(query="lookup")),
        ("another-lookup", "another-lookup", EncoderOptions()),
    ],
)
def test_options_follow_the_name(text, name, options):
    assert parse_encoder_name(text) == (name, options)


@pytest.mark.parametrize(
    ("tail", "complaint"),
    [
        ("devise=cpu", f"unknown key 'devise'; known: {KEYS}"),
        ("device=cpu,", f"unknown key ''; known: {KEYS}"),
        ("max_length=0", "max_length is '0'; wanted a whole number, at least 1"),
        ("max_length=1.5", "max_length is '1.5'; wanted a whole number, at least 1"),
        ("max_length=", "max_length is ''; wanted a whole number, at least 1"),
        ("top_terms=-1", "top_terms is '-1'; wanted a whole number, at least 0"),
        ("query=table", "query is 'table'; wanted one of model, lookup, encoder"),
        ("dtype=float64", "dtype is 'float64'; wanted one of float32, bfloat16, float16"),
        ("device=cpu,dtype=half", "dtype is 'half'; wanted one of float32, bfloat16, float16"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_what_is_wanted(tail, complaint):
    with pytest.raises(InputError) as error:
        parse_encoder_name(f"csplade-tiny:{tail}")
    assert str(error.value) == f"encoder 'csplade-tiny:{tail}': {complaint}"


def test_a_wrong_quantization_is_an_error():
    with pytest.raises(InputError, match="quantization is 'int3'; wanted one of none"):
        parse_encoder_name("csplade-tiny:quantization=int3")


def test_a_lookup_that_is_asked_for_twice_is_an_error():
    with pytest.raises(InputError, match="a key stands twice"):
        parse_encoder_name("csplade-tiny-lookup:query=model")


def test_a_folder_whose_own_name_ends_in_lookup_is_that_folder(tmp_path):
    folder = make_checkpoint(tmp_path / "mine-lookup", card=EncoderCard(name="mine"))
    make_checkpoint(tmp_path / "mine", card=EncoderCard(name="mine"))
    assert parse_encoder_name(str(folder)) == (str(folder), EncoderOptions())
    other = f"{tmp_path / 'mine'}-lookup"
    shutil.rmtree(folder)
    assert parse_encoder_name(other) == (str(tmp_path / "mine"), EncoderOptions(query="lookup"))


def test_a_slip_in_a_lookups_name_is_near_the_lookup():
    assert near_misses("csplade-tny-lookup")[0] == "csplade-tiny-lookup"
    assert near_misses("csplade-tiny-lookup") == []


def test_options_without_a_name_are_an_error():
    for text in ("device=cpu", ":device=cpu"):
        with pytest.raises(InputError, match="wanted NAME or NAME:key=value"):
            parse_encoder_name(text)


def test_a_folder_may_have_an_equals_sign_or_a_colon_in_its_name(tmp_path):
    for name in ("lr=0.1", "run:3", "run:lr=0.1"):
        folder = make_checkpoint(tmp_path / name, card=EncoderCard(name="mine"))
        assert parse_encoder_name(str(folder)) == (str(folder), EncoderOptions())
    for name in ("lr=0.1", "run:3"):
        assert parse_encoder_name(f"{tmp_path / name}:device=cpu") == (
            str(tmp_path / name),
            EncoderOptions(device="cpu"),
        )


def test_given_options_win_over_those_in_the_name():
    options = EncoderOptions(device="cpu", max_length=8)
    assert options.override(device=None, max_length=16) == EncoderOptions(device="cpu", max_length=16)


def test_lengths_and_top_terms_of_the_options_go_to_both_sides_of_the_card():
    card = EncoderOptions(max_length=8, top_terms=5, device="cpu").apply_to(
        EncoderCard(name="a", query_top_terms=1)
    )
    expected = EncoderCard(
        name="a", query_max_length=8, document_max_length=8, query_top_terms=5, document_top_terms=5
    )
    assert card == expected
    assert EncoderOptions().apply_to(expected) == expected
    assert EncoderOptions(top_terms=0).apply_to(expected).query_top_terms == 0


def test_prefixes_of_the_options_win_over_those_of_the_card():
    card = EncoderCard(name="a", query_prefix="query: ", document_prefix="passage: ")
    changed = EncoderOptions(query_prefix="", document_prefix="query: ").apply_to(card)
    assert (changed.query_prefix, changed.document_prefix) == ("", "query: ")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a/b", "a/b:max_length=9,document_prefix=query: "),
        ("a/b:device=cuda:1", "a/b:device=cuda:1,max_length=9,document_prefix=query: "),
        ("a/b:max_length=5", "a/b:max_length=5,document_prefix=query: "),
        ("a/b:document_prefix=,max_length=5", "a/b:document_prefix=,max_length=5"),
        ("csplade-tiny-lookup", "csplade-tiny-lookup:max_length=9,document_prefix=query: "),
    ],
)
def test_options_are_added_to_a_name_and_its_own_stay(name, wanted):
    assert with_options(name, {"max_length": 9, "document_prefix": "query: "}) == wanted
    assert with_options(name, {}) == name


def test_cards_and_aliases_are_ours_in_any_case():
    for card in shipped_cards().values():
        for name in (card.name, *card.aliases):
            for written in (name, name.upper(), name.lower(), f"{name}:device=cpu"):
                assert is_ours(written), written
            assert find_card(name.upper()) == card


def test_a_name_of_ours_with_wrong_options_is_ours_still():
    assert is_ours("csplade-tiny:devise=cpu")


@pytest.mark.parametrize(
    "name",
    [
        "naver/splade-v3",
        "naver/splade-cocondenser-ensembledistil",
        "csplade",
        "csplade-tiny-2",
        "bm25",
        "x\0y",
        "/",
    ],
)
def test_other_names_are_not_ours(name):
    assert not is_ours(name)
    assert not is_ours(f"{name}:device=cpu")


def test_a_folder_is_ours_where_it_has_a_card(tmp_path, monkeypatch):
    make_checkpoint(tmp_path / "with", card=EncoderCard(name="mine"))
    make_checkpoint(tmp_path / "without")
    assert is_ours(str(tmp_path / "with"))
    assert is_ours(f"{tmp_path / 'with'}:device=cpu")
    assert not is_ours(str(tmp_path / "without"))
    monkeypatch.chdir(tmp_path)
    assert is_ours("with")
    assert not is_ours("without")


def test_a_file_is_not_ours_but_the_name_of_a_card_is_even_where_a_file_has_it(tmp_path, monkeypatch):
    (tmp_path / "csplade-tiny").write_text("{}")
    (tmp_path / "queries.jsonl").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert is_ours("csplade-tiny")
    assert not is_ours("queries.jsonl")


def test_a_hub_repository_is_ours_where_its_card_is_in_the_cache(tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "models--somebody--mine" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    write_card(EncoderCard(name="mine", weights="hub"), snapshot / "card.toml")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert is_ours("somebody/mine")
    assert not is_ours("somebody/else")
    assert find_checkpoint("somebody/mine") == Checkpoint(
        EncoderCard(name="mine", weights="hub", base="somebody/mine"), None
    )


def test_an_adapter_in_a_hub_repository_is_the_encoders_own(tmp_path, monkeypatch):
    """Without it in the card, the base would be loaded alone, and nobody told."""
    snapshot = tmp_path / "hub" / "models--somebody--mine" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    write_card(EncoderCard(name="mine", base="meta/model"), snapshot / "card.toml")
    (snapshot / "adapter_model.safetensors").touch()
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    names._hub_card.cache_clear()
    found = find_checkpoint("somebody/mine")
    assert (found.card.base, found.card.adapter, found.folder) == ("meta/model", "somebody/mine", None)
    (
        snapshot / "adapter_model.safetensors"
    ).unlink()  # or out of reach: loading it then is an error, never the base alone
    assert find_checkpoint("somebody/mine") == found
    names._hub_card.cache_clear()


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    for find in (find_card, find_checkpoint):
        with pytest.raises(InputError) as error:
            find("csplade-2b")
        message = str(error.value)
        assert message.startswith("unknown encoder 'csplade-2b'; known: ")
        assert [name for name in CONTRACT if f"{name}," not in message and f"{name};" not in message] == []


def test_a_folder_without_a_card_is_an_error_of_its_own(tmp_path):
    with pytest.raises(InputError) as error:
        find_checkpoint(str(tmp_path))
    assert (
        str(error.value) == f"the folder {tmp_path} has no card.toml: it is not a checkpoint folder of ours"
    )


def test_a_known_name_without_weights_says_where_it_looked_and_how_to_get_them(tmp_path):
    with pytest.raises(InputError) as error:
        find_checkpoint("CSPLADE-causal-8B")
    message = str(error.value)
    assert "'csplade-8b' has no weights here" in message
    assert shipped_cards()["csplade-8b"].install in message
    assert str(tmp_path / "home" / "encoders" / "csplade-8b") in message
    assert str(names.cards_folder() / "csplade-8b") in message


def test_csplade_home_defaults_to_a_folder_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in (lambda: monkeypatch.delenv("CSPLADE_HOME"), lambda: monkeypatch.setenv("CSPLADE_HOME", "")):
        unset()
        assert checkpoints.csplade_home() == tmp_path / ".cache" / "csplade_pyserini"


def test_weights_in_csplade_home_win_over_those_that_ship(monkeypatch, tmp_path):
    card = shipped_cards()["csplade-tiny"]
    monkeypatch.setattr(checkpoints, "cards_folder", lambda: tmp_path / "shipped")
    shipped = make_checkpoint(tmp_path / "shipped" / "csplade-tiny")
    assert find_checkpoint("csplade-tiny") == Checkpoint(card, shipped)
    home = make_checkpoint(tmp_path / "home" / "encoders" / "csplade-tiny", weights=None)
    assert find_checkpoint("csplade-tiny").folder == shipped, "a folder without weights counts for nothing"
    (home / "adapter_model.safetensors").write_bytes(b"")
    assert find_checkpoint("Csplade-Tiny") == Checkpoint(card, home)
    assert weight_folders(card) == [home, shipped]


def test_a_card_beside_the_weights_wins_over_the_shipped_one(tmp_path):
    own = EncoderCard(name="csplade-8b", document_max_length=99)
    folder = make_checkpoint(tmp_path / "home" / "encoders" / "csplade-8b", card=own)
    assert find_checkpoint("csplade-8b") == Checkpoint(own, folder)


def test_a_card_with_public_weights_needs_no_folder():
    assert find_checkpoint("lion-sp-1b") == Checkpoint(shipped_cards()["lion-sp-1b"], None)


def test_the_identity_is_that_of_card_and_weights_not_of_the_folder(tmp_path):
    card = EncoderCard(name="mine")
    first = make_checkpoint(tmp_path / "first", card=card)
    identity = find_checkpoint(str(first)).identity
    assert identity.startswith(f"mine@{card.hash()[:16]}-")

    renamed = first.rename(tmp_path / "renamed")
    assert find_checkpoint(str(renamed)).identity == identity

    other_weights = make_checkpoint(tmp_path / "weights", card=card, weights=b"wEights")
    longer_weights = make_checkpoint(tmp_path / "longer", card=card, weights=b"weights+")
    other_card = make_checkpoint(tmp_path / "card", card=EncoderCard(name="mine", echo=True))
    other_name = make_checkpoint(tmp_path / "name", card=EncoderCard(name="yours"))
    folders = (renamed, other_weights, longer_weights, other_card, other_name)
    assert len({find_checkpoint(str(folder)).identity for folder in folders}) == len(folders)


def test_the_fingerprint_sees_the_head_and_the_tail_of_a_large_file(tmp_path):
    middle = bytes(3 * 2**20)
    contents = (b"a" + middle + b"a", b"b" + middle + b"a", b"a" + middle + b"b", b"a" + middle + b"aa")
    folders = [make_checkpoint(tmp_path / str(i), weights=weights) for i, weights in enumerate(contents)]
    assert len({Checkpoint(EncoderCard(name="a"), folder).fingerprint for folder in folders}) == len(contents)


def test_the_fingerprint_of_public_weights_is_that_of_their_names_and_revision():
    cards = [
        EncoderCard(name="a", base="x/y"),
        EncoderCard(name="a", base="x/y", revision="0123"),
        EncoderCard(name="a", base="x/y", adapter="x/z"),
    ]
    assert len({Checkpoint(card, None).fingerprint for card in cards}) == len(cards)


@pytest.mark.parametrize("module", ["csplade_pyserini", "csplade_pyserini.cards", "csplade_pyserini.impacts"])
def test_importing_it_loads_nothing_heavy(module):
    program = f"import sys, {module}; print([m for m in {NOT_LOADED!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_looking_a_card_up_loads_nothing_heavy():
    program = (
        "import sys; from csplade_pyserini.cards import find_card, is_ours\n"
        "assert is_ours('csplade-tiny') and find_card('csplade-tiny').name == 'csplade-tiny'\n"
        f"print([m for m in {(*NOT_LOADED, 'huggingface_hub')!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "name", ["naver/a--b", "out/a..b", "out/model-", "out/model.git", "out/" + "x" * 100, "x" * 300]
)
def test_asking_whether_a_name_is_ours_never_raises(name):
    assert not is_ours(name)
    with pytest.raises(InputError, match="unknown encoder"):
        find_card(name)


@pytest.mark.parametrize("options", ["device=cpu,device=cuda", "device=", "max_length=1,max_length=1"])
def test_an_option_stands_once_and_has_a_value(options):
    with pytest.raises(InputError, match="a key stands twice|has no value"):
        parse_encoder_name(f"csplade-8b:{options}")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("csplade-tinny", "csplade-tiny"),
        ("CSPLADE_TINY", "csplade-tiny"),
        ("csplade-bismol", "csplade-bi-smol"),
        ("lionsp-8b", "lion-sp-8b"),
        ("utahnlp/laconic-1bb", "laconic-1b"),
        ("csplade-bi", "csplade-bi-1b"),
    ],
)
def test_an_unknown_name_asks_for_the_near_one(name, near):
    assert near_misses(name)[0] == near
    with pytest.raises(InputError, match=f"unknown encoder '{name}'; known: .*; did you mean {near}"):
        find_card(name)
    with pytest.raises(InputError, match=f"did you mean {near}"):
        find_checkpoint(f"{name}:device=cpu")


@pytest.mark.parametrize(
    "name", ["naver/splade-v3", "SpladeV3", "bm25", "gpt2", "", "csplade-tiny", "Laconic-1B"]
)
def test_a_name_of_ours_or_of_another_is_no_near_miss(name):
    assert near_misses(name) == []
