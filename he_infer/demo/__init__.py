"""The main job from images to report, as `he-infer demo` runs it."""
