"""File formats: image and video files, their tags, annotations and value ranges."""
