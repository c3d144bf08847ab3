"""`python -m supclap_jax.cli`, the same as `supclap`."""

import sys

from supclap_jax.cli.main import main

sys.exit(main())
