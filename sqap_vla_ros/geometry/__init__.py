"""From the camera's image and the transforms to the tool's place in the image."""
