"""Start the reader: add its package to the path, on which isolated mode leaves only the standard library."""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/agent/")[0])
    from agent.reader.child import main

    main(sys.argv[1:])
