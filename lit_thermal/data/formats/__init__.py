"""Data as the camera gives them: image and video files, their tags, annotations and value ranges."""
