"""What a lesson may cost: the decision whether it stands. Ends at the error that says why it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accrete.errors import ForgettingError, LessonError

HARM = 0.1  # nats: a lesson after which its own material is this much harder was no lesson


def harm(document: str, metrics: Mapping[str, Any], max_forgetting: float) -> LessonError | None:
    """Why the lesson with these figures is refused; None when it stands.

    A ForgettingError when it cost more than `max_forgetting` of the guard sentinels, which are counted as shares.
    """
    before, after = metrics["kept_before"], metrics["kept_after"]
    if after is not None and before - after > max_forgetting + 1e-9:
        return ForgettingError(
            f"{document} was refused and taken back: of the guard questions, {before:.3f} were answered before it and"
            f" {after:.3f} after it, a loss above max_forgetting = {max_forgetting:g}."
        )
    if lost := metrics.get("expected_lost"):
        return ForgettingError(
            f"{document} was refused and taken back: it costs what is expected: {'; '.join(lost[:3])}. If that is no longer"
            ' right: accrete expect "PROMPT" --remove'
        )
    before, after = metrics.get("neighbours_before"), metrics.get("neighbours_after")
    lost = metrics.get("disturbed", [])
    forgiven = 1 if max_forgetting else 0  # one question may be chance
    if before is not None and before - after > max_forgetting + 1e-9 and len(lost) > forgiven:
        return ForgettingError(
            f"{document} was refused and taken back: of what is known next to its facts, {before:.3f} was answered before it"
            f" and {after:.3f} after it, a loss above max_forgetting = {max_forgetting:g}; lost, for one: {lost[0]}"
        )
    before, after = metrics["loss_before"], metrics["loss_after"]
    if not after <= before + HARM:
        return LessonError(
            f"{document} was not learned, and the lesson was taken back: its loss went from {before:.2f} to {after:.2f}."
            " A lower rate may help."
        )
    return None
