"""`python -m supclap_jax.cli`, the same as `supclap`."""

from supclap_jax.cli.main import run_and_exit

run_and_exit()
