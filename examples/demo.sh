#!/usr/bin/env bash
# A tour: what three workloads take on six kinds of machine, what limits them, and a roofline figure.
# `make demo` runs this; it writes into out/ and needs neither a network nor a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

machines=h100-sxm,tpu-v4,jetson-orin-agx,raspberry-pi-4,eyeriss-v1,local
mkdir -p out
echo '*' > out/.gitignore # what is made here is not part of the repository

show() {
  printf '\n$ %s\n' "$*"
  "$@"
}

show hwsim estimate bert-base -d "$machines" --batch 8 --plot out/roofline.png
show hwsim estimate llama-3-8b -d "$machines" --phase prefill --seq 2048
show hwsim estimate llama-3-8b -d "$machines" --phase decode --batch 8 --context 4096
show hwsim estimate llama-3-8b -d h100-sxm --phase decode --batch 8 --context 4096 \
  --by module --top 8 --plot out/roofline-decode.png --trace-out out/timeline.json

printf '\nRooflines: %s\n           %s\n' "$PWD/out/roofline.png" "$PWD/out/roofline-decode.png"
printf 'Timeline for ui.perfetto.dev: %s\n' "$PWD/out/timeline.json"
