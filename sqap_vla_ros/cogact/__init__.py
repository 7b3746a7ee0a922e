"""The CogACT policy network as published: preprocessing, vision towers, language model, diffusion action head."""
