"""Commands on the rendered world: pictures of scenes, speed, shortcuts."""
