"""Encode a corpus with Ray: one shard at a time per actor, each actor with its own model.

python run_scripts/ray_encode.py --actors 8 --shard-num 64 --encoder csplade-8b --corpus corpus.jsonl \\
    --output /shared/vectors

This needs pip install 'csplade_pyserini[ray]' and an --output that all machines see. The other flags are
those of `python -m csplade_pyserini.encode`, which every actor runs. If an actor dies, another one resumes
its shard.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csplade_pyserini import command_line
from csplade_pyserini.collections.shards import merge_shards
from csplade_pyserini.command_line import positive
from csplade_pyserini.errors import CheckError, InputError

MOST_DEATHS = 3
"""After this many dead actors, the shard itself is blamed."""


class ShardEncoder:
    """An actor that encodes one shard after the other."""

    def encode(self, flags: list[str], shard_id: int, shard_num: int) -> int:
        """Encode a shard, and return its number. Raises InputError and CheckError as the command does."""
        from csplade_pyserini.encode import main

        main([*flags, "--shard-id", str(shard_id), "--shard-num", str(shard_num)])
        return shard_id


def main(argv: Sequence[str] | None = None) -> int:
    args, flags = parse_args(argv)
    try:
        import ray
    except ImportError as error:
        raise InputError("ray is not installed: pip install 'csplade_pyserini[ray]'") from error
    ray.init(address=args.address, log_to_driver=True)
    actor = ray.remote(num_gpus=args.gpus, max_restarts=-1)(ShardEncoder)
    actors = [actor.remote() for _ in range(min(args.actors, args.shard_num))]
    encode_shards(ray, actors, [*flags, "--output", str(args.output)], args.shard_num)
    manifest = merge_shards(args.output)
    print(f"{args.output}: {manifest.documents} documents", file=sys.stderr)
    return 0


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return this script's arguments, and the flags for `encode`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--actors", type=positive, required=True, help="number of models that run at once")
    parser.add_argument("--gpus", type=float, default=1.0, help="GPUs per actor (default 1; 0 on CPUs)")
    parser.add_argument(
        "--shard-num", type=positive, required=True,
        help="number of shards; with a few per actor, actors end at about the same time",
    )  # fmt: skip
    parser.add_argument("--address", help="address of a running Ray cluster (default: this machine alone)")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="collection directory to write"
    )
    return parser.parse_known_args(argv)


def encode_shards(ray: Any, idle: list[Any], flags: list[str], shard_num: int) -> None:
    """Encode all shards. Raises CheckError for a shard whose actors keep dying."""
    waiting = list(range(shard_num))
    deaths = [0] * shard_num
    running: dict[Any, tuple[Any, int]] = {}
    while waiting or running:
        while waiting and idle:
            worker = idle.pop()
            shard_id = waiting.pop(0)
            running[worker.encode.remote(flags, shard_id, shard_num)] = (worker, shard_id)
        [ended], _ = ray.wait(list(running), num_returns=1)
        worker, shard_id = running.pop(ended)
        idle.append(worker)  # Ray restarts a dead actor
        try:
            print(f"shard {ray.get(ended)} of {shard_num} is whole", file=sys.stderr)
        except ray.exceptions.RayActorError as error:
            deaths[shard_id] += 1
            if deaths[shard_id] >= MOST_DEATHS:
                raise CheckError(
                    f"shard {shard_id}: its actor died {MOST_DEATHS} times; the last time: {error}"
                ) from error
            print(f"shard {shard_id}: its actor died; another one goes on with it", file=sys.stderr)
            waiting.insert(0, shard_id)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error


if __name__ == "__main__":
    command_line.run(main)
