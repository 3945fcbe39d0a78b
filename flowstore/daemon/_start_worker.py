"""Start a rebuild's worker: `python -m flowstore.daemon._start_worker`.

What is imported is there to stay. Looking through it for garbage, again and again while it comes in, is
a sixth of the time that a worker takes to start; so nobody does, neither now nor later.
"""

import gc

if __name__ == "__main__":
    gc.disable()
    from flowstore.daemon._worker import main

    gc.freeze()
    gc.enable()
    main()
