"""Shapes of the files of a tested run, as far as a report reads them."""

from lit_thermal.shapes import COUNT, LARGEST, Each, Number, OneOf

_MEASURED = Each((None, Number()))
"""Values by metric; null for a value that was not finite."""
_GAIN = (Number(low=1e-12), Number(high=-1e-12))
"""A gain other than 0, so that the mapping can be inverted."""
_COST = (None, Number(low=0))

METRICS = {
    "method": str,
    "results": Each(Each(Each(_MEASURED))),
    "cost?": (
        None,
        {
            "parameters?": _COST,
            "trainable_parameters?": _COST,
            "training_seconds?": _COST,
            "training_steps?": _COST,
            "seconds_per_image?": _COST,
            "peak_memory_bytes?": _COST,
            "device?": (None, str),
            "threads?": (None, COUNT),
        },
    ),
    "against_baselines?": Each({"strongest": str}),
    "protocols?": Each(Each(Each(_MEASURED))),
    "data?": Each({"images?": COUNT, "clips?": COUNT, "all?": COUNT}),
    "protocol?": {"text?": str},
    "skipped?": (None, Each(str)),
}
"""`metrics.json`."""

GALLERY = {
    "datasets?": Each(
        [
            {
                "name": str,
                "radiometry": {
                    "offset": Number(),
                    "gain": _GAIN,
                    "bits": OneOf((8, 16)),
                    "unit": OneOf(("counts", "linear", "planck")),
                    "constants": [Number(-LARGEST, LARGEST)],
                },
                "files": Each([str]),
                "time?": [Number()],
                "lr_time?": [Number()],
            }
        ]
    )
}
"""`gallery.json`."""
