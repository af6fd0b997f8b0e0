"""What a published report says of itself."""

from bantamnet.config.section import Section


class Claims(Section):
    """What a published report says of itself, so that a run can be held against it."""

    report: str
    """Title."""
    accuracy: float | None = None
    """Headline accuracy in percent."""
    measured_on: str | None = None
    """Images and checkpoint behind the headline, as far as report and logs tell."""
    parameters: int | None = None
    """Trainable parameters."""
    optimizer: str | None = None
    """Optimiser as the report describes it."""
    hardware: str | None = None
    """Hardware and time."""
    milestones: dict[str, dict[int, float]] = {}
    """Curves of its logs: what was measured → epoch → percent."""
    notes: list[str] = []
    """What cannot be executed, or contradicts itself."""
