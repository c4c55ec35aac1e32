"""Starts nova-compute with the lab's stand-in for a hypervisor: nova looks for drivers below nova.virt only."""
import os
import sys

import nova.cmd  # first: it makes threads green
import nova.virt

nova.virt.__path__.append(os.path.dirname(os.path.abspath(__file__)))

from nova.cmd import compute  # noqa: E402

sys.exit(compute.main())
