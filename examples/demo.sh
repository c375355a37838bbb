#!/usr/bin/env bash
# A tour: estimates on six kinds of machine, what limits them, a whole request, and where curves cross.
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

show hwsim trace bert-base --out out/bert-base.json
show hwsim estimate out/bert-base.json -d "$machines" --batch 8 --plot out/roofline.png
show hwsim estimate llama-3-8b -d h100-sxm --phase decode --batch 8 --context 4096 \
  --by module --top 8 --plot out/roofline-decode.png --trace-out out/timeline.json
show hwsim estimate llama-3-8b -d "$machines,examples/my_npu.toml" --seq 2048 --generate 256
show hwsim compare examples/attention.py:softmax examples/attention.py:linear -d h100-sxm,tpu-v5e \
  --over seq=128:131072 --plot out/crossover.png

printf '\nFigures:\n'
printf '  %s\n' "$PWD"/out/*.png
printf 'Timeline for ui.perfetto.dev:\n  %s\n' "$PWD/out/timeline.json"
