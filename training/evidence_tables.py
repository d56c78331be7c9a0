# SPDX-License-Identifier: Apache-2.0
"""Reads the CSV files of evidence.py, decides what counts, and writes the tables.

A task counts at a length, in a seed, where that seed's dense model answers at least 95 %.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

DENSE_NEEDED = 0.95
SHOWN_RECALL = 0.2  # of a source in the table of sources
TRAINED = (("every", 16), ("half", 8), ("quarter", 4), ("eighth", 2))
NAMES = {
    "dense": "dense",
    "every": "every layer (16)",
    "half": "1/2 (8)",
    "quarter": "1/4 (4)",
    "eighth": "1/8 (2)",
}
Row = dict[str, str]
Count = tuple[int, int]


def wilson(right: int, asked: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share."""
    if not asked:
        return 0.0, 1.0
    share, square = right / asked, z * z / asked
    centre = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / asked + square / (4 * asked)) / (1 + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def read(folder: Path, table: str) -> list[Row]:
    with (folder / f"{table}.csv").open() as file:
        return list(csv.DictReader(file))


def task_of(row: Row) -> str:
    return row["task"] if row["task"] in ("needle", "list") else f"{row['task']} {row['hops']}"


class Answers:
    """The table of answers, with what counts."""

    def __init__(self, folder: Path):
        rows = read(folder, "answers")
        self.tasks = list(dict.fromkeys(task_of(row) for row in rows))
        self.lengths = sorted({int(row["length"]) for row in rows})
        self.seeds = sorted({row["seed"] for row in rows}, key=int)
        self.rows = rows
        dense: dict[tuple, list[int]] = defaultdict(lambda: [0, 0])
        for row in rows:
            if row["arm"] == "dense":
                count = dense[row["seed"], task_of(row), int(row["length"])]
                count[0] += int(row["right"])
                count[1] += int(row["asked"])
        self.counted = {key for key, (right, n) in dense.items() if right / n >= DENSE_NEEDED}

    def select(self, arm: str, plan_of: str, test: Callable[[Row], bool], gated: bool = True):
        for row in self.rows:
            key = row["seed"], task_of(row), int(row["length"])
            is_wanted = row["arm"] == arm and row["plan_of"] == plan_of and test(row)
            if is_wanted and (key in self.counted or not gated):
                yield row

    def score(self, arm: str, plan_of: str, test, gated: bool = True) -> Count:
        return total(self.select(arm, plan_of, test, gated))

    def by_seed(self, arm: str, plan_of: str, test, gated: bool = True) -> list[Count]:
        """One count for each seed; nothing asked where the task does not count in the seed."""
        rows = list(self.select(arm, plan_of, test, gated))
        return [total(row for row in rows if row["seed"] == seed) for seed in self.seeds]

    def seeds_that_count(self, task: str, length: int) -> int:
        return sum((seed, task, length) in self.counted for seed in self.seeds)


def total(rows: Iterable[Row]) -> Count:
    right = asked = 0
    for row in rows:
        right += int(row["right"])
        asked += int(row["asked"])
    return right, asked


def recall(rows: Iterable[Row], name: str = "recall_value") -> float:
    """Mean over the questions of the best source's recall@k."""
    held = asked = 0.0
    for row in rows:
        if row[name]:
            held += float(row[name]) * int(row["asked"])
            asked += int(row["asked"])
    return held / asked if asked else math.nan


def percent(count: Count) -> str:
    right, asked = count
    if not asked:
        return "–"
    low, high = wilson(right, asked)
    return f"{100 * right / asked:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def shares(counts: list[Count]) -> str:
    """One percentage for each seed."""
    return " · ".join(f"{100 * right / asked:.1f}" if asked else "–" for right, asked in counts)


def own(arm: str) -> str:
    return "dense" if arm == "dense" else "own"


def is_at(task: str, length: int) -> Callable[[Row], bool]:
    return lambda row: task_of(row) == task and int(row["length"]) == length


# --- tables --------------------------------------------------------------------------------


def line(*cells) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def header(*cells) -> list[str]:
    return [line(*cells), "|" + "---|" * len(cells)]


def dense_table(answers: Answers) -> list[str]:
    rows = header("dense model, % right", *answers.lengths)
    for task in answers.tasks:
        cells = []
        for length in answers.lengths:
            count = answers.score("dense", "dense", is_at(task, length), gated=False)
            seeds = answers.seeds_that_count(task, length)
            cells.append(f"{percent(count)}, counts in {seeds} of {len(answers.seeds)}")
        rows.append(line(task, *cells))
    return rows


def trained_table(answers: Answers) -> list[str]:
    arms = ("dense", *(arm for arm, _ in TRAINED))
    rows = header("task", "length", "seeds", *(NAMES[arm] for arm in arms))
    for task in answers.tasks:
        for length in answers.lengths:
            seeds = answers.seeds_that_count(task, length)
            if seeds:
                cells = []
                for arm in arms:
                    found = list(answers.select(arm, own(arm), is_at(task, length)))
                    cell = percent(total(found))
                    if arm != "dense" and found:
                        cell += f", r {100 * recall(found):.0f}"
                    cells.append(cell)
                rows.append(line(task, length, seeds, *cells))
    return rows


def seeds_table(answers: Answers) -> list[str]:
    """Trained arms, one share of right answers for each seed."""
    arms = ("dense", *(arm for arm, _ in TRAINED))
    rows = header("task", "length", *(NAMES[arm] for arm in arms))
    for task in answers.tasks:
        for length in answers.lengths:
            if answers.seeds_that_count(task, length):
                test = is_at(task, length)
                cells = (shares(answers.by_seed(arm, own(arm), test)) for arm in arms)
                rows.append(line(task, length, *cells))
    return rows


def by_layer(rows: Iterable[Row], name: str) -> dict[str, float]:
    """Mean recall of each source."""
    held: dict[str, float] = defaultdict(float)
    asked = 0
    for row in rows:
        for part in row[f"{name}_by_layer"].split():
            layer, share = part.split(":")
            held[layer] += float(share) * int(row["asked"])
        asked += int(row["asked"])
    return {layer: value / asked for layer, value in held.items()}


def sources_table(answers: Answers) -> list[str]:
    """Which source holds which sentence of a chain of one hop, layer by layer."""
    names = {"recall_asked": "of the sentence asked for", "recall_value": "of the one it points to"}
    heads = (f"recall {name}, source: %" for name in names.values())
    rows = header("arm", "seed", "length", "right, %", *heads)
    for arm, _ in TRAINED:
        for seed in answers.seeds:
            for length in (answers.lengths[0], answers.lengths[-1]):
                found = answers.select(arm, "own", is_at("chain 1", length))
                found = [row for row in found if row["seed"] == seed]
                if not found:
                    continue
                cells = []
                for name in names:
                    held = by_layer(found, name).items()
                    shown = [f"{layer}: {100 * x:.0f}" for layer, x in held if x >= SHOWN_RECALL]
                    cells.append(", ".join(shown) or "–")
                rows.append(line(NAMES[arm], seed, length, shares([total(found)]), *cells))
    return rows


def plan_names(folder: Path) -> dict[int, dict[str, str]]:
    """Number of indexers -> what stands in the column plan_of."""
    return {
        count: {
            "uniform": arm,
            "searched by text loss": f"searched by text, {count}",
            "searched by answers": f"searched by answers, {count}",
        }
        for arm, count in TRAINED[1:]
    }


def training_free_table(answers: Answers, folder: Path, by_seed: bool = False) -> list[str]:
    length = 2048 if 2048 in answers.lengths else answers.lengths[0]
    tasks = [t for t in answers.tasks if answers.seeds_that_count(t, length)]
    rows = header("indexers", "plan", "trained", *tasks)
    tests = {task: is_at(task, length) for task in tasks}

    def cells(arm, plan_of):
        if by_seed:
            return [shares(answers.by_seed(arm, plan_of, tests[task])) for task in tasks]
        return [percent(answers.score(arm, plan_of, tests[task])) for task in tasks]

    rows.append(line(16, "every layer", "yes", *cells("every", "own")))
    for arm, count in TRAINED[1:]:
        rows.append(line(count, "uniform", "yes", *cells(arm, "own")))
        for name, plan_of in plan_names(folder)[count].items():
            rows.append(line(count, name, "no", *cells("every", plan_of)))
    for arm in ("quarter", "every"):
        for control in ("untrained indexer", "previous source"):
            trained = "yes" if arm == "quarter" else "no"
            rows.append(line(4, f"1/4, shared layers: {control}", trained, *cells(arm, control)))
    return rows


def loss_table(folder: Path) -> list[str]:
    losses: dict[tuple, list[float]] = defaultdict(list)
    dense: dict[tuple, float] = {}
    rows = read(folder, "books")
    for row in rows:
        if row["arm"] == "dense":
            dense[row["seed"], row["length"]] = float(row["loss"])
    for row in rows:
        base = dense.get((row["seed"], row["length"]))
        if base is not None:
            key = row["arm"], row["plan_of"], int(row["length"])
            losses[key].append(float(row["loss"]) - base)
    lengths = sorted({int(row["length"]) for row in rows})
    table = header("arm", "plan", *(f"{n}" for n in lengths))
    for arm, plan_of in dict.fromkeys((row["arm"], row["plan_of"]) for row in rows):
        cells = []
        for length in lengths:
            found = losses.get((arm, plan_of, length))
            if not found:
                cells.append("–")
                continue
            change = [100 * (math.exp(x) - 1) for x in found]
            mean = sum(change) / len(change)
            cells.append(f"{mean:+.1f} % ({min(change):+.1f} to {max(change):+.1f})")
        table.append(line(NAMES.get(arm, arm), plan_of, *cells))
    values = [math.exp(x) for x in dense.values()]
    table.append("")
    table.append(f"Perplexity of the dense models: {min(values):.1f} to {max(values):.1f}.")
    return table


def search_table(folder: Path) -> list[str]:
    table = header("seed", "criterion", "indexers", "plan", "loss")
    counts = {count for _, count in TRAINED}
    for row in read(folder, "search"):
        if row["plan"].count("F") in counts:
            loss = f"{float(row['loss']):.4f}"
            table.append(
                line(
                    row["seed"], row["criterion"], row["plan"].count("F"), f"`{row['plan']}`", loss
                )
            )
    return table


def cost_table(folder: Path) -> list[str]:
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in read(folder, "cost"):
        groups[int(row["length"]), int(row["indexers"])].append(row)
    table = header(
        "tokens", "indexers", "indexers' GFLOP", "share of all FLOP", "selecting, ms", "prefill, ms"
    )
    for (length, indexers), rows in sorted(groups.items(), key=lambda g: (g[0][0], -g[0][1])):
        index, other = float(rows[0]["index_gflop"]), float(rows[0]["other_gflop"])
        selecting = sum(float(row["selecting_ms"]) for row in rows) / len(rows)
        prefill = sum(float(row["total_ms"]) for row in rows) / len(rows)
        share = f"{100 * index / (index + other):.0f} %"
        table.append(
            line(length, indexers, f"{index:.2f}", share, f"{selecting:.1f}", f"{prefill:.1f}")
        )
    return table


def training_table(folder: Path) -> list[str]:
    table = header("seed", "arm", "stage", "steps", "M tokens", "seconds", "compiling, s")
    for row in read(folder, "training"):
        tokens = f"{int(row['tokens']) / 1e6:.1f}"
        cells = (row["seed"], row["arm"], row["stage"], row["steps"], tokens)
        table.append(line(*cells, row["seconds"], row["compiling"]))
    return table


def write_tables(answers: Answers, folder: Path, path: Path) -> None:
    tables = {
        "What the dense model answers": dense_table(answers),
        "Trained arms": trained_table(answers),
        f"Trained arms, seeds {', '.join(answers.seeds)}": seeds_table(answers),
        "Which source holds which sentence, chains of one hop": sources_table(answers),
        "Trained and training-free plans": training_free_table(answers, folder),
        f"The same, seeds {', '.join(answers.seeds)}": training_free_table(answers, folder, True),
        "Perplexity on the validation books": loss_table(folder),
        "Plans found by search": search_table(folder),
        "Work and time": cost_table(folder),
        "Training": training_table(folder),
    }
    text = "\n\n".join(f"## {name}\n\n" + "\n".join(rows) for name, rows in tables.items())
    path.write_text("# Tables\n\n" + text + "\n", encoding="utf-8")
