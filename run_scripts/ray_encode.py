"""Encode a corpus with Ray: as many actors as there are devices for, a shard at a time, each with a model of its own.

python run_scripts/ray_encode.py --actors 8 --shard-num 64 --encoder csplade-8b --corpus corpus.jsonl --output /shared/vectors

Needs pip install 'csplade_pyserini[ray]' and an --output that all machines see. The other flags are those of
`python -m csplade_pyserini.encode`, which every actor runs; a shard whose actor dies is given to another, and goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini import command_line
from csplade_pyserini.collections.shards import merge_shards
from csplade_pyserini.command_line import positive
from csplade_pyserini.errors import CheckError, InputError

MOST_DEATHS = 3
"""Of the actors of one shard, after which the shard itself is thought to be what kills them."""


class ShardEncoder:
    """What an actor does: encode one shard after the other."""

    def encode(self, flags: list[str], shard_id: int, shard_num: int) -> int:
        """The shard's number, once it is whole. Raises InputError and CheckError as the command does."""
        from csplade_pyserini.encode import main

        main([*flags, "--shard-id", str(shard_id), "--shard-num", str(shard_num)])
        return shard_id


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--actors", type=positive, required=True, help="models at work at once")
    parser.add_argument("--gpus", type=float, default=1.0, help="GPUs an actor has (default 1; 0 on CPUs)")
    parser.add_argument(
        "--shard-num",
        type=positive,
        required=True,
        help="number of shards; a few for each actor even out their ends",
    )
    parser.add_argument("--address", help="of a running Ray cluster (default: one of this machine alone)")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="collection directory to write"
    )
    args, flags = parser.parse_known_args(argv)
    try:
        import ray
    except ImportError as error:
        raise InputError("ray is not installed: pip install 'csplade_pyserini[ray]'") from error
    ray.init(address=args.address, log_to_driver=True)
    flags += ["--output", str(args.output)]
    actor = ray.remote(num_gpus=args.gpus, max_restarts=-1)(ShardEncoder)
    idle = [actor.remote() for _ in range(min(args.actors, args.shard_num))]
    waiting, running, deaths = list(range(args.shard_num)), {}, [0] * args.shard_num
    while waiting or running:
        while waiting and idle:
            worker, shard_id = idle.pop(), waiting.pop(0)
            running[worker.encode.remote(flags, shard_id, args.shard_num)] = (worker, shard_id)
        [ended], _ = ray.wait(list(running), num_returns=1)
        worker, shard_id = running.pop(ended)
        idle.append(worker)  # Ray starts a dead one again
        try:
            print(f"shard {ray.get(ended)} of {args.shard_num} is whole", file=sys.stderr)
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
    manifest = merge_shards(args.output)
    print(f"{args.output}: {manifest.documents} documents", file=sys.stderr)
    return 0


if __name__ == "__main__":
    command_line.run(main)
