"""The long mode: `python -m tests.fuzz --count 10000 [--seed 1] [--only NAME ...] [--keep DIR]`."""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # pytest does the same

from fuzz_harness import failures
from fuzz_readers import ALL
from fuzz_records import READERS as RECORDS
from fuzz_records import REPORT, strange

parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Read damaged files of all kinds.")
parser.add_argument("--count", type=int, default=10000, help="inputs of each kind (default: 10000)")
parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
parser.add_argument("--only", nargs="+", default=[], choices=[reader.name for reader in (*ALL, *RECORDS, REPORT)])
parser.add_argument("--keep", type=Path, help="folder for the inputs that failed")
arguments = parser.parse_args()
total = 0
for reader in ALL:
    if arguments.only and reader.name not in arguments.only:
        continue
    wrong = failures(reader, arguments.count, arguments.seed, arguments.keep)
    total += len(wrong)
    print(f"{reader.name}: {len(wrong)} of {arguments.count} inputs failed", *wrong[:20], sep="\n  ", flush=True)
for record in (*RECORDS, REPORT):
    if arguments.only and record.name not in arguments.only:
        continue
    # a report draws for a second
    count = arguments.count if record is not REPORT or arguments.only else arguments.count // 20
    with tempfile.TemporaryDirectory() as folder:
        wrong = list(strange(record, Path(folder), count, arguments.seed))
    total += len(wrong)
    print(f"{record.name}: {len(wrong)} of {count} inputs failed", *wrong[:20], sep="\n  ", flush=True)
raise SystemExit(1 if total else 0)
