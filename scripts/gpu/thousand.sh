#!/usr/bin/env bash
# A thousand examples as one lesson on the embedded model, with the defaults and with larger batches: `bash scripts/gpu/thousand.sh`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bench() { once "$1" benchmarks/thousand.py --json "${@:2}"; }

bench thousand_full --method full_finetune
bench thousand_lora --method lora_replay_ewc
bench thousand_full_wide --method full_finetune --set batch_size=64 --set rate=6e-4
bench thousand_lora_wide --method lora_replay_ewc --set batch_size=64 --set rate=2e-3 --set min_epochs=1
bench thousand_lora_wide_bf16 --method lora_replay_ewc --dtype bfloat16 --set batch_size=64 --set rate=2e-3 --set min_epochs=1
exit "$failed"
