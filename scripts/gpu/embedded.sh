#!/usr/bin/env bash
# The embedded model with up to 15M parameters: `bash scripts/gpu/embedded.sh prepare | train | join PIECES` (README.md).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
stage=${1:-train}
if [ "$stage" = train ]; then
    # It stops by itself; the limit is for one that hangs.
    timeout $((STOP_AFTER - SECONDS + 35)) "$PYTHON" scripts/gpu/embedded.py train --folder "$RESULTS/embedded" \
        --seconds $((STOP_AFTER - SECONDS)) $EXTRA
else
    "$PYTHON" scripts/gpu/embedded.py "$@" --folder "$RESULTS/embedded" $EXTRA
fi
