"""All readers of single files that are fuzzed: a file of readers is added here by one line."""

import fuzz_cameras
import fuzz_configs
import fuzz_images
import fuzz_videos

READERS = [*fuzz_images.READERS, *fuzz_cameras.READERS, *fuzz_configs.READERS]
"""What the quick tests damage."""
ALL = [*READERS, *fuzz_videos.READERS]
"""What the long mode damages: a quick test of videos, all kinds together, stands beside the reader's other tests."""
