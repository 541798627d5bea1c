"""The spec: what a user asks for (`sections`), and how YAML becomes that or a list of mistakes (`parse`)."""
