"""From messages to an observation: images, cameras, transforms, patches."""
