"""A run's temperature, from its validation predictions alone."""

from bantamnet.errors import UserError
from bantamnet.evaluate.calibration import fit_temperature
from bantamnet.evaluate.tta import ViewAverage
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.tensorfile import read_header


def run_temperature(run: RunDirectory, digest: str, average: ViewAverage) -> tuple[float | None, str]:
    """(temperature for logits of the weights with this digest under these views, where it comes from or why there is none).

    Logits of other weights, or averaged over other views, are sharp in another way, so their temperature would not fit.
    """
    path = run.path / "predictions" / "val.safetensors"
    if not path.is_file():
        return None, "none: there are no validation predictions beside the model"
    try:
        header, stored = read_header(path), run.predictions("val")
    except UserError as error:
        return None, f"none: {error}"
    if header.get("digest") != digest:
        return None, "none: the run's validation predictions are of other weights"
    asked, views = average.figures(), ("tta", "tta_average", "tta_below")
    if any(header.get(name) != asked.get(name) for name in views):
        return None, f"none: the run's validation predictions have tta {header.get('tta')}; --tta recipe does as they do"
    temperature = fit_temperature(stored["logits"], stored["targets"])
    if temperature is None:
        return None, "none: validation images are all right, or no better than chance, so the NLL has no least"
    return temperature, f"fitted on {len(stored['targets']):,} validation images"
