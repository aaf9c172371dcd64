#!/usr/bin/env bash
# Fetch what the GPU machine lacks as wheels into runs/gpu/wheels, on a machine with a package index: `bash scripts/gpu/wheels.sh`.
# GPU_PYTHON is that machine's Python. Ends at files to carry; common.sh installs them there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
pin() { grep -i "^$1==" constraints.txt; }
wheels=runs/gpu/wheels
platforms=()
for tag in manylinux_2_28 manylinux_2_17 manylinux2014 manylinux1; do platforms+=(--platform "${tag}_x86_64"); done
"${PYTHON:-python3}" -m pip download -q --no-deps --only-binary=:all: --python-version "${GPU_PYTHON:-3.12}" --implementation cp \
    "${platforms[@]}" -d "$wheels" \
    "$(pin pydantic)" "$(pin pydantic_core)" "$(pin annotated-types)" "$(pin typing-inspection)" "$(pin datasketch)"
ls -l "$wheels"
