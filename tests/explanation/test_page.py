"""The page of an explanation shows texts and runs nothing of them."""

import html
import re

from programs import shown_by_browser

from csplade_pyserini.explanation.page import _units, write_explanation
from csplade_pyserini.explanation.shares import ExplainedHit, Explanation, TermShare
from csplade_pyserini.model import AttributedText

NASTY = "<script>document.title='owned'</script> & \"quoted\" <img src=x onerror=\"document.title='owned'\">"


def share(term, product, *, query_position=0, document_position=0, **more):
    fields = {
        "shown": term.lstrip("Ġ"), "query_impact": product, "document_impact": 1, "share": product / 10,
        "expands_query": False, "expands_document": False,
    }  # fmt: skip
    return TermShare(
        term=term,
        product=product,
        query_position=query_position,
        document_position=document_position,
        **fields | more,
    )


def explanation(text, *, docid="d1", terms=("heart", "attack")):
    tokens = tuple(re.findall(r"\s*\S+", text))
    ends = [sum(map(len, tokens[: n + 1])) for n in range(len(tokens))]
    spans = tuple((end - len(token), end) for token, end in zip(tokens, ends, strict=True))
    attributed = AttributedText(text=text, tokens=tokens, spans=spans, vector={}, positions={})
    matched = tuple(share(term, 6 - 2 * n, document_position=n) for n, term in enumerate(terms))
    hit = ExplainedHit(
        docid=docid, rank=1, score=10, lucene_score=10.0, matched=matched, unmatched=(share("none", 3),),
        document=attributed, text_has_changed=False,
    )  # fmt: skip
    return Explanation(encoder="e@1", query=attributed, hits=(hit,))


def written(tmp_path, *words, **more):
    write_explanation(tmp_path / "why.html", explanation(*words, **more), index="index")
    return (tmp_path / "why.html").read_text(encoding="utf-8")


def test_every_character_of_the_text_is_on_the_page_in_order(tmp_path):
    page = written(tmp_path, "Heart attack,  sudden\nand grave")
    block = page[page.index("<h3>document</h3>") :].split('<div class="text">')[1].split("</div>")[0]
    assert html.unescape(re.sub(r"<[^>]*>", "", block)) == "Heart attack,  sudden\nand grave"


def test_a_token_is_as_dark_as_its_part_of_the_score(tmp_path):
    page = written(tmp_path, "heart attack today")
    document = page[page.index("<h3>document</h3>") :]
    assert re.findall(r"--part:([\d.]+)", document) == ["1.0000", "0.6667", "0.0000"]
    assert "heart  6 x 1 = 6" in document


def test_tokens_that_share_a_character_are_one_unit():
    text = AttributedText(
        text="a心b",
        tokens=("a", "å", "¿", "b"),
        spans=((0, 1), (1, 2), (1, 2), (2, 3)),
        vector={},
        positions={},
    )
    assert _units(text) == [(0, 1, [0]), (1, 2, [1, 2]), (2, 3, [3])]


def test_what_stands_in_texts_docids_and_terms_is_escaped(tmp_path):
    page = written(tmp_path, NASTY, docid="<script>1</script>", terms=("<b>", '"onclick="x'))
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert ' onclick="' not in html.unescape(re.sub(r'"[^"]*"', '""', page))
    assert "default-src 'none'" in page


def test_a_browser_shows_a_script_and_does_not_run_it(tmp_path):
    written(tmp_path, NASTY, docid=NASTY)
    shown = shown_by_browser(tmp_path / "why.html", tmp_path / "profile")
    assert "<title>Why: &lt;script&gt;" in shown  # the title that the script would have changed
    assert 'class="token"' in shown
    # The same browser does run what is not ours: the test can fail.
    (tmp_path / "bare.html").write_text(f"<!doctype html><title>before</title>{NASTY}")
    assert "<title>owned</title>" in shown_by_browser(tmp_path / "bare.html", tmp_path / "profile")
