"""Where the reader starts: finds its own package (isolated mode leaves only the standard library on the
path).
"""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/agent/")[0])
    from agent.reader.child import main

    main(sys.argv[1:])
