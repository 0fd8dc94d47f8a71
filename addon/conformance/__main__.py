import sys

from addon.conformance.command_line import main

sys.exit(main())
