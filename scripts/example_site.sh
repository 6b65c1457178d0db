#!/usr/bin/env bash
# An example of a leaderboard: the demo, and transcripts of AgentDojo that others published.
#
#   scripts/example_site.sh OUT [DATA]
#
# OUT gets runs/, with a run directory each, and site/. DATA is a folder with agentdojo_llama4scout (none_defense/*.jsonl)
# and agentdojo_official_explorer (<pipeline>.jsonl); without it, the site is of the demo alone. What was published is
# scored again on the way, without a model: minutes for the first time, seconds after that.
set -euo pipefail

[ "$#" -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
out=$1 data=${2:-}
harness=${HARNESS:-.venv/bin/harness}
mkdir -p "$out/runs"
[ -e "$out/runs/demo" ] || cp -R results/demo "$out/runs/demo"

published() { # NAME DEVELOPER COUNTRY FOLDER-OR-FILE
    if [ -e "$out/runs/$1" ]; then return; fi
    local status=0
    "$harness" replay "$4" --out "$out/runs/$1" --name "$1" --developer "$2" --country "$3" > "$out/$1.txt" || status=$?
    # 1: some verdicts come out otherwise today. They are named in the file, and the site has today's.
    [ "$status" -le 1 ] || exit "$status"
    echo "$1: what scoring it again says is in $out/$1.txt"
}
if [ -n "$data" ]; then
    explorer=$data/agentdojo_official_explorer
    published Llama-4-Scout Meta US "$data/agentdojo_llama4scout/none_defense"
    published Llama-3-70B Meta US "$explorer/meta-llama_Llama-3-70b-chat-hf.jsonl"
    published Command-R Cohere CA "$explorer/command-r.jsonl.xz"
    published Command-R+ Cohere CA "$explorer/command-r-plus.jsonl.xz"
    published GPT-4o-mini OpenAI US "$explorer/gpt-4o-mini-2024-07-18.jsonl.xz"
fi
"$harness" site "$out/runs" --out "$out/site" --config examples/leaderboard/site.yaml
