#!/usr/bin/env bash
# Run all phases of a configuration, in the order of its tables, and put the result into the card's folder.
#
#     run_scripts/train.sh csplade-bi-1b                                        # one process
#     LAUNCH="accelerate launch --config_file run_scripts/train/fsdp.yaml" run_scripts/train.sh csplade-bi-8b
#     LAUNCH="torchrun --nproc_per_node 8" run_scripts/train.sh csplade-bi-1b
#
# Run again to resume: finished phases are skipped, and an unfinished one goes on from its last checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."

name="${1:?usage: run_scripts/train.sh NAME (a file of run_scripts/train/ without .toml)}"
config="run_scripts/train/$name.toml"
[ -f "$config" ] || { echo "no $config; there are: $(cd run_scripts/train && echo *.toml)" >&2; exit 2; }
launch="${LAUNCH:-python}"
home="${CSPLADE_HOME:-$HOME/.cache/csplade_pyserini}/encoders/$name"
[ ! -e "$home" ] || { echo "$home exists: remove it to train $name anew" >&2; exit 2; }

value() { # value SECTION KEY: print a string of the configuration
    python -c 'import sys, tomllib; print(tomllib.load(open(sys.argv[1], "rb"))[sys.argv[2]][sys.argv[3]])' \
        "$config" "$1" "$2"
}

result=""
for section in $(grep -oE '^\[(adapt|contrast|merge)[^].]*\]' "$config" | tr -d '[]'); do
    phase="${section%%-*}"
    result="$(value "$section" output)"
    if [ "$phase" = merge ]; then # runs in one process and resumes nothing
        [ -d "$result" ] || (set -x; python -m csplade_pyserini.train merge --config "$config" --section "$section")
    else
        (set -x; $launch -m csplade_pyserini.train "$phase" --config "$config" --section "$section")
    fi
done
mkdir -p "$(dirname "$home")"
cp -r "$result" "$home.partial"
mv "$home.partial" "$home"
echo "$name is in $home; search with: --encoder $name" >&2
