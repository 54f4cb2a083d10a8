"""Files in, files out: movies (open_movie), regions of interest (load_rois), and stores (udenoise.io.store)."""

from udenoise.io.movie import Movie, open_movie
from udenoise.io.rois import Rois, load_rois, rois_dense, rois_from_masks

__all__ = ["Movie", "Rois", "load_rois", "open_movie", "rois_dense", "rois_from_masks"]
