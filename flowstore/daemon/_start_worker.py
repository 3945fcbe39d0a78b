"""Start a rebuild's worker: `python -m flowstore.daemon._start_worker`.

What is imported is there to stay. Looking through it for garbage, again and again while it comes in, is
a sixth of the time that a worker takes to start; so nobody does, neither now nor later. Events and
documents come by the thousand, with next to no garbage that needs to be looked for among them: so that
is done more rarely than Python does by itself, in a process that nothing else runs in.
"""

import gc
from typing import Final

_OBJECTS: Final = 20_000
"""So many more than there were, and Python looks for garbage among them: some pages of events."""

if __name__ == "__main__":
    gc.disable()
    from flowstore.daemon._worker import main

    gc.freeze()
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
    gc.enable()
    main()
