"""Sessions: the actor that performs what the session machine decides, and the handles its users hold."""
