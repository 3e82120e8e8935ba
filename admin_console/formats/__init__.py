"""How a language writes dates where Django's own formats do it otherwise."""
