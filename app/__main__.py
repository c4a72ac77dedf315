"""`python -m app -i IN -o OUT`: the entry of a MAP. The same as `busmap run`.

Promises: the exit status is that of the run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.bootstrap import prepare_process
from app.stopping import block_stop_signals


def main() -> int:
    """Parse the flags and run once."""
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Analyse a folder of DICOM files. Research use. Not a cleared device.",
        epilog="Without flags the folders are those of HOLOSCAN_INPUT_PATH and HOLOSCAN_OUTPUT_PATH, "
        "MERCURE_IN_DIR and MERCURE_OUT_DIR, or MONAI_INPUTPATH and MONAI_OUTPUTPATH.",
    )
    parser.add_argument("-i", "--input", type=Path, help="folder with the DICOM files of one or more studies")
    parser.add_argument("-o", "--output", type=Path, help="folder for the results: new or empty")
    parser.add_argument("-c", "--config", type=Path, help="settings file (YAML)")
    flags = parser.parse_args()
    block_stop_signals()
    prepare_process()
    # After the preload: the SDK needs it at import.
    from app.oneshot import main as run_once

    return run_once(flags.input, flags.output, flags.config)


if __name__ == "__main__":
    sys.exit(main())
