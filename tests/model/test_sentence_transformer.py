"""An encoder as a live SparseEncoder: the same vectors, training, evaluation."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from programs import SAMPLE
from tiny_models import TEXTS, VOCABULARY, tiny_model

from csplade_pyserini import load_encoder
from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.topics import read_qrels, read_topics
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import SparseEncoder
from csplade_pyserini.model.lexical import Lexical

pytest.importorskip("sentence_transformers")
from csplade_pyserini.model.sentence_transformer import to_sparse_encoder  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
CARDS = {
    "causal": {},
    "bidirectional": {"attention": "bidirectional"},
    "echo": {"echo": True, "add_bos": True, "add_eos": True},
    "prefixes": {"query_prefix": "query: ", "document_prefix": "passage: ", "lowercase": True},
    "lengths": {"query_max_length": 3, "document_max_length": 7},
    "scale": {"logit_scale": 0.25, "impact_scale": 50.0},
    "top terms": {"query_top_terms": 5, "document_top_terms": 11, "exclude_special_tokens": True},
    "unpooled": {"unpooled_terms": (".", "?")},
    "fold": {"fold": "case"},
    "fold, top terms": {"fold": "case", "query_top_terms": 5, "document_top_terms": 11, "echo": True},
    "fold, positions": {
        "fold": "case",
        "position_top_terms": 6,
        "logit_shift": 0.25,
        "attention": "bidirectional",
    },
}


def vectors_of(encoder: SparseEncoder, embeddings: torch.Tensor) -> list[dict[str, int]]:
    """Vectors of impacts that embeddings stand for; all terms that are not 0."""
    found = []
    for row in embeddings.to_dense():
        ids = row.nonzero()[:, 0].tolist()
        found.append({encoder.terms[i]: round(float(row[i]) * encoder.card.impact_scale) for i in ids})
    return found


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_embeddings_are_our_vectors_for_queries_and_documents(make_encoder, card):
    encoder = make_encoder("qwen3", **card)
    model = to_sparse_encoder(encoder)
    texts = [*TEXTS, "", "  ", "  white space  "]
    for embed, encode, side in (
        (model.encode_query, encoder.encode_queries, "query"),
        (model.encode_document, encoder.encode_documents, "document"),
    ):
        embeddings = embed(texts, batch_size=3)
        ours = encode(texts)
        found = vectors_of(encoder, embeddings)
        assert [vector.keys() for vector in found] == [vector.keys() for vector in ours]
        for one, other in zip(found, ours, strict=True):
            assert all(abs(one[term] - other[term]) <= 1 for term in one)  # at rounding boundaries
        weights = encoder.weights(texts, side=side)
        kept = embeddings.to_dense()
        assert torch.allclose(kept, torch.where(kept > 0, weights, 0), atol=1e-5)


def test_lexical_weights_are_embedded_trained_and_saved(byte_tokenizer, tmp_path):
    root_idf = torch.rand(VOCABULARY, generator=torch.Generator().manual_seed(4)) + 0.5
    encoder = SparseEncoder(
        EncoderCard(name="x", least_weight=0.4, query_lexical_weight=0.5, document_lexical_weight=0.25),
        tiny_model("llama"),
        byte_tokenizer,
        lexical=Lexical(root_idf, 7.5, torch.ones(VOCABULARY)),
    )
    model = to_sparse_encoder(encoder)
    assert vectors_of(encoder, model.encode_document(TEXTS)) == encoder.encode_documents(TEXTS)
    assert vectors_of(encoder, model.encode_query(TEXTS)) == encoder.encode_queries(TEXTS)
    model.train()
    rows = encoder.tokenize(TEXTS, side="document")
    in_training = model[0]._trainable_weights(rows, "document")
    in_training = in_training.detach()
    encoded = encoder.weights(TEXTS)
    kept = encoded > 1.5  # heavy enough to be no lexical weight alone
    assert kept.any()
    torch.testing.assert_close(in_training[kept], encoded[kept])
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    assert load_encoder(str(tmp_path / "saved")).encode_queries(TEXTS) == encoder.encode_queries(TEXTS)


def test_a_prompt_of_ones_own_stands_for_the_cards_prefix(make_encoder):
    encoder = make_encoder(query_prefix="query: ")
    model = to_sparse_encoder(encoder)
    bare = make_encoder(query_prefix="find ")
    [wanted] = bare.encode_queries(["pain"])
    [found] = vectors_of(encoder, model.encode_query(["pain"], prompt="find "))
    assert found.keys() == wanted.keys()


def test_the_shipped_encoder_is_made_by_its_name_and_decodes_to_terms():
    model = to_sparse_encoder("csplade-tiny", top_terms=8)
    encoder = load_encoder("csplade-tiny", top_terms=8)
    [vector] = encoder.encode_queries(["heart attack symptoms"])
    decoded = model.decode(model.encode_query(["heart attack symptoms"])[0])
    assert {term: round(weight * 100) for term, weight in decoded} == pytest.approx(vector, abs=1)
    scores = model.similarity(model.encode_query(["heart attack"]), model.encode_document(TEXTS))
    assert int(scores.argmax()) in (0, 3)
    assert model.get_embedding_dimension() == len(encoder.terms)


def test_queries_of_a_table_are_refused_by_name_and_as_an_object():
    for encoder in ("csplade-tiny-lookup", load_encoder("csplade-tiny-lookup")):
        with pytest.raises(InputError, match="queries of csplade-tiny are made by lookup"):
            to_sparse_encoder(encoder)


def test_its_trainer_trains_our_backbone_and_what_it_saves_is_an_encoder(make_encoder, tmp_path):
    pytest.importorskip("accelerate")
    from datasets import Dataset
    from sentence_transformers import SparseEncoderTrainer, SparseEncoderTrainingArguments
    from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss

    encoder = make_encoder(attention="bidirectional", query_prefix="query: ", query_max_length=16)
    model = to_sparse_encoder(encoder)
    before = encoder.model.get_input_embeddings().weight.detach().clone()
    data = Dataset.from_dict({"query": TEXTS[:4], "document": TEXTS[1:]})
    loss = SpladeLoss(
        model,
        loss=SparseMultipleNegativesRankingLoss(model),
        document_regularizer_weight=3e-5,
        query_regularizer_weight=5e-5,
    )
    arguments = SparseEncoderTrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        prompts={"query": "query: "},
    )
    SparseEncoderTrainer(model=model, args=arguments, train_dataset=data, loss=loss).train()
    assert not torch.equal(before, encoder.model.get_input_embeddings().weight)
    model.eval()
    wanted = encoder.encode_queries(TEXTS)
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    saved = load_encoder(str(tmp_path / "saved"))
    assert saved.encode_queries(TEXTS) == wanted
    assert dataclasses.replace(saved.card, name="x") == dataclasses.replace(encoder.card, name="x")
    assert [file.name for file in (tmp_path / "saved").glob("*.bin")] == []


def test_folds_decode_to_our_terms(make_encoder):
    encoder = make_encoder(fold="case")
    model = to_sparse_encoder(encoder)
    assert model.get_embedding_dimension() == len(encoder.terms) < len(encoder.token_terms)
    wanted = encoder.encode_documents(TEXTS)
    for text, vector in zip(model.decode(model.encode_document(TEXTS)), wanted, strict=True):
        assert {term: round(weight * 100) for term, weight in text} == pytest.approx(vector, abs=1)
    [(term, _)] = model.decode(model.encode_document(TEXTS[0]), top_k=1)
    assert term in list(wanted[0])[:2]
    assert model.tokenizer is encoder.tokenizer


def test_folds_are_trained_as_they_are_encoded(make_encoder):
    """The weights with a gradient are those of an evaluation, and the gradient reaches the backbone."""
    encoder = make_encoder(fold="case", attention="bidirectional")
    model = to_sparse_encoder(encoder)
    features = model[0].preprocess(TEXTS, task="document")
    model.train()
    weights = model[0].forward(dict(features), task="document")["sentence_embedding"]
    assert torch.allclose(weights.detach(), encoder.weights(TEXTS, side="document"), atol=1e-5)
    weights.sum().backward()
    assert encoder.model.get_input_embeddings().weight.grad.abs().sum() > 0


def test_its_evaluator_scores_the_sample_as_ir_measures_does():
    """NanoBEIR's evaluator is this one over data sets of the hub, which no test can reach."""
    ir_measures = pytest.importorskip("ir_measures")
    from ir_measures import RR, R, nDCG
    from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator

    topics = read_topics(str(SAMPLE / "topics.tsv"))
    texts = {
        document.docid: document.text for document in open_corpus(str(SAMPLE / "corpus.jsonl")).documents()
    }
    relevant: dict[str, set[str]] = {}
    for qid, grades in read_qrels(str(SAMPLE / "qrels.txt")).items():
        relevant[qid] = {docid for docid, grade in grades.items() if grade > 0}
    encoder = load_encoder("csplade-tiny")
    evaluator = SparseInformationRetrievalEvaluator(
        topics, texts, relevant, accuracy_at_k=[1], precision_recall_at_k=[100], mrr_at_k=[10],
        ndcg_at_k=[10], map_at_k=[100], show_progress_bar=False, write_csv=False,
    )  # fmt: skip
    scores = evaluator(to_sparse_encoder(encoder))
    queries = encoder.encode_queries(list(topics.values()))
    documents = dict(zip(texts, encoder.encode_documents(list(texts.values())), strict=True))
    run = {}
    for qid, query in zip(topics, queries, strict=True):
        products = {
            docid: sum(impact * document.get(term, 0) for term, impact in query.items())
            for docid, document in documents.items()
        }
        run[qid] = {docid: product for docid, product in products.items() if product > 0}
    qrels = [ir_measures.Qrel(qid, docid, 1) for qid, docids in relevant.items() for docid in docids]
    wanted = ir_measures.calc_aggregate([nDCG @ 10, RR @ 10, R @ 100], qrels, run)
    for key, measure in (("ndcg@10", nDCG @ 10), ("mrr@10", RR @ 10), ("recall@100", R @ 100)):
        near = 0.011 if measure == R @ 100 else 0.003  # a document of rounded impacts may have none
        assert scores[f"dot_{key}"] == pytest.approx(wanted[measure], abs=near), key
    assert scores[evaluator.primary_metric] > 0.5


def test_without_the_package_it_says_what_to_install():
    from programs import run_python

    program = (
        "import sys; sys.modules['sentence_transformers'] = None\n"
        "import csplade_pyserini\n"
        "csplade_pyserini.to_sparse_encoder('csplade-tiny')"
    )
    done = run_python("-c", program)
    assert "pip install 'csplade_pyserini[sentence-transformers]'" in done.stderr.splitlines()[-1]


# The other way: folders that sentence-transformers wrote.


def saved_by_sentence_transformers(
    folder: Path, make_encoder, *, length: int = 24, pooling: dict | None = None, **more: object
) -> tuple[Path, object]:
    """Save a model that sentence-transformers built from a causal language model, and return both."""
    from sentence_transformers import SparseEncoder as Live
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    base = make_encoder(**{"attention": "bidirectional"} | more.pop("card", {}))
    base.model.save_pretrained(folder / "base")
    base.tokenizer.save_pretrained(folder / "base")
    transformer = Transformer(
        str(folder / "base"),
        transformer_task="text-generation",
        modality_config={"text": {"method": "forward", "method_output_name": "logits"}},
        module_output_name="token_embeddings",
        processing_kwargs={"text": {"logits_to_keep": 0}},
    )
    transformer.max_seq_length = length
    model = Live(modules=[transformer, SpladePooling(**(pooling or {}))], device="cpu", **more)
    model.encode(["a"])
    model.save_pretrained(str(folder / "saved"), create_model_card=False)
    return folder / "saved", model


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_a_folder_of_a_causal_model_is_an_encoder_with_its_card_derived(make_encoder, tmp_path, attention):
    folder, model = saved_by_sentence_transformers(
        tmp_path,
        make_encoder,
        card={"attention": attention},
        prompts={"query": "query: ", "document": "passage: "},
        max_active_dims=40,
    )
    encoder = load_encoder(str(folder))
    card = encoder.card
    assert (card.attention, card.query_prefix, card.document_prefix) == (attention, "query: ", "passage: ")
    assert (card.query_max_length, card.document_max_length) == (24, 24)
    assert (card.query_top_terms, card.document_top_terms) == (40, 40)
    texts = [*TEXTS, " ".join(TEXTS)]
    for theirs, ours in (
        (model.encode_query(texts), encoder.encode_queries(texts)),
        (model.encode_document(texts), encoder.encode_documents(texts)),
    ):
        for row, vector in zip(theirs.to_dense(), ours, strict=True):
            impacts = {encoder.terms[i]: float(row[i]) * 100 for i in row.nonzero()[:, 0].tolist()}
            # Ids that the tokenizer has not are no terms here, so that other terms take their place.
            kept = {term: impact for term, impact in impacts.items() if term and round(impact) >= 1}
            assert kept == pytest.approx({term: vector[term] for term in kept}, abs=1)
            assert len(kept) > 20


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "values", "reason"),
    [
        (
            "1_SpladePooling/config.json",
            {"pooling_strategy": "sum"},
            "pooling_strategy is 'sum'; wanted 'max'",
        ),
        ("1_SpladePooling/config.json", {"activation_function": "log1p_relu"}, "wanted 'relu'"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "cosine"}, "similarity is 'cosine'"),
        ("sentence_bert_config.json", {"transformer_task": "feature-extraction"}, "wanted 'text-generation'"),
        ("sentence_bert_config.json", {"module_output_name": "causal_logits"}, "wanted 'logits' as"),
        ("sentence_bert_config.json", {"processing_kwargs": {}}, "pools the logits of the last 1 tokens"),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}, "its prompts are"),
        ("tokenizer_config.json", {"model_max_length": 0}, None),
    ],
)
def test_what_a_card_cannot_say_is_refused_with_the_reason(make_encoder, tmp_path, file, values, reason):
    folder, _ = saved_by_sentence_transformers(tmp_path, make_encoder)
    change(folder / file, **values)
    if reason is None:
        assert load_encoder(str(folder)).card.query_max_length == 2048  # the model's own limit
        return
    with pytest.raises(InputError, match=reason):
        load_encoder(str(folder))


def test_a_card_beside_the_weights_wins(make_encoder, tmp_path):
    folder, _ = saved_by_sentence_transformers(tmp_path, make_encoder, pooling={"pooling_strategy": "sum"})
    (folder / "card.toml").write_text('name = "mine"\nattention = "bidirectional"\n')
    assert load_encoder(str(folder)).card.name == "mine"
