"""The command `supclap`: one module a command, found by `main`, where their shape is described."""
