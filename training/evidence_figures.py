# SPDX-License-Identifier: Apache-2.0
"""Tables and plots of docs/evidence.md from the CSV files of evidence.py.

    python evidence_figures.py ../docs/evidence/runs --out ../docs/evidence [--figure length]

A task counts at a length, in a seed, where that seed's dense model answers at least 95 %.
"""

import argparse
import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

DENSE_NEEDED = 0.95
TRAINED = (("every", 16), ("half", 8), ("quarter", 4), ("eighth", 2))
NAMES = {
    "dense": "dense",
    "every": "every layer (16)",
    "half": "1/2 (8)",
    "quarter": "1/4 (4)",
    "eighth": "1/8 (2)",
}
COLOURS = {
    "dense": "#888888",
    "every": "#1b5e9e",
    "half": "#2a9d5c",
    "quarter": "#e08a1e",
    "eighth": "#c0392b",
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


def training_free_table(answers: Answers, folder: Path) -> list[str]:
    length = 2048 if 2048 in answers.lengths else answers.lengths[0]
    tasks = [t for t in answers.tasks if answers.seeds_that_count(t, length)]
    rows = header("indexers", "plan", "trained", *tasks)
    tests = {task: is_at(task, length) for task in tasks}

    def cells(arm, plan_of):
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


# --- plots ---------------------------------------------------------------------------------


def with_bars(axes, xs: list, counts: list[Count], **style) -> None:
    kept = [(x, c) for x, c in zip(xs, counts, strict=True) if c[1]]
    if not kept:
        return
    xs, counts = zip(*kept, strict=True)
    shares = [100 * right / asked for right, asked in counts]
    bounds = [wilson(*count) for count in counts]
    below = [max(0.0, s - 100 * low) for s, (low, _) in zip(shares, bounds, strict=True)]
    above = [max(0.0, 100 * high - s) for s, (_, high) in zip(shares, bounds, strict=True)]
    axes.errorbar(xs, shares, yerr=[below, above], marker="o", capsize=2, markersize=3, **style)


def figure_length(answers: Answers, folder: Path, plot) -> None:
    """Right answers by length, one panel a task."""
    figure, panels = plot.subplots(2, 4, figsize=(14, 6), sharey=True)
    for axes, task in zip(panels.flat, answers.tasks, strict=False):
        for arm in COLOURS:
            counts = [answers.score(arm, own(arm), is_at(task, n), False) for n in answers.lengths]
            with_bars(axes, answers.lengths, counts, color=COLOURS[arm], label=NAMES[arm])
        for length in answers.lengths:
            if not answers.seeds_that_count(task, length):
                axes.axvspan(length / 1.2, length * 1.2, color="#eeeeee", zorder=0)
        axes.set(title=task, xscale="log", xticks=answers.lengths, ylim=(-3, 103))
        axes.set_xticklabels([str(n) for n in answers.lengths])
        axes.minorticks_off()
    for axes in panels.flat[len(answers.tasks) :]:
        axes.axis("off")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    panels.flat[-1].legend(handles, labels, loc="center", frameon=False)
    figure.supxlabel("tokens (grey: does not count, dense model below 95 % in every seed)")
    figure.supylabel("right answers, %")


def figure_hops(answers: Answers, folder: Path, plot) -> None:
    """Chains: right answers by number of hops, at each length."""
    chains = [task for task in answers.tasks if task.startswith("chain")]
    figure, panels = plot.subplots(1, len(answers.lengths), figsize=(13, 3.6), sharey=True)
    panels = [panels] if len(answers.lengths) == 1 else panels
    for axes, length in zip(panels, answers.lengths, strict=True):
        hops = [int(task.split()[1]) for task in chains]
        for arm in COLOURS:
            counts = [answers.score(arm, own(arm), is_at(t, length), False) for t in chains]
            with_bars(axes, hops, counts, color=COLOURS[arm], label=NAMES[arm])
        axes.set(title=f"{length} tokens", xticks=hops, xlabel="hops", ylim=(-3, 103))
    panels[0].set_ylabel("right answers, %")
    panels[0].legend(frameon=False, fontsize=7)


def figure_depth(answers: Answers, folder: Path, plot) -> None:
    """Needles by depth: the fifth of the text in which the fact stands."""
    figure, panels = plot.subplots(1, len(answers.lengths), figsize=(13, 3.6), sharey=True)
    panels = [panels] if len(answers.lengths) == 1 else panels
    for axes, length in zip(panels, answers.lengths, strict=True):
        for arm in COLOURS:
            counts = [
                answers.score(
                    arm,
                    own(arm),
                    lambda r, d=depth, n=length: is_at("needle", n)(r) and int(r["depth"]) == d,
                    False,
                )
                for depth in range(5)
            ]
            with_bars(axes, list(range(5)), counts, color=COLOURS[arm], label=NAMES[arm])
        axes.set(title=f"{length} tokens", xticks=range(5), xlabel="depth", ylim=(-3, 103))
        axes.set_xticklabels(["first fifth", "", "", "", "last"])
    panels[0].set_ylabel("needles right, %")
    panels[0].legend(frameon=False, fontsize=7)


def figure_plans(answers: Answers, folder: Path, plot) -> None:
    """Trained against training-free plans by number of indexers: one lookup, and chains."""
    figure, panels = plot.subplots(1, 2, figsize=(10, 3.8), sharey=True)
    length = 2048 if 2048 in answers.lengths else answers.lengths[0]
    styles = {
        "uniform, trained": ("#1b5e9e", None),
        "uniform": ("#c0392b", "uniform"),
        "searched by text loss": ("#e08a1e", "searched by text loss"),
        "searched by answers": ("#2a9d5c", "searched by answers"),
    }
    tasks = {"needle and list": ("needle", "list"), "chains of one or two hops": ("chain", "back")}
    for axes, (title, kinds) in zip(panels, tasks.items(), strict=True):

        def is_wanted(row: Row, kinds=kinds) -> bool:
            return int(row["length"]) == length and row["task"] in kinds

        for label, (colour, name) in styles.items():
            xs, counts = [16], [answers.score("every", "own", is_wanted)]
            for arm, indexers in TRAINED[1:]:
                plan_of = plan_names(folder)[indexers][name] if name else "own"
                counts.append(answers.score("every" if name else arm, plan_of, is_wanted))
                xs.append(indexers)
            shown = label if name is None else f"{label}, not trained"
            with_bars(axes, xs, counts, color=colour, label=shown)
        axes.set(title=title, xscale="log", xlabel="indexers", ylim=(-3, 103))
        axes.set_xticks([16, 8, 4, 2], ["16", "8", "4", "2"])
        axes.minorticks_off()
        axes.invert_xaxis()
    panels[0].set_ylabel(f"right at {length} tokens, where it counts, %")
    panels[1].legend(frameon=False, fontsize=7)


def figure_recall(answers: Answers, folder: Path, plot) -> None:
    """Right answers against recall@k of the best source: one point an arm, task, length and seed."""
    figure, axes = plot.subplots(figsize=(5.5, 4.5))
    for arm, _ in TRAINED:
        xs, ys = [], []
        for seed, task, length in sorted(answers.counted):
            test = is_at(task, length)
            rows = [r for r in answers.select(arm, "own", test) if r["seed"] == seed]
            right, asked = total(rows)
            if asked:
                xs.append(100 * recall(rows))
                ys.append(100 * right / asked)
        axes.scatter(xs, ys, s=10, color=COLOURS[arm], label=NAMES[arm])
    axes.set(xlabel="recall@k of the answering sentence at the best source, %")
    axes.set(ylabel="right answers, %", xlim=(-3, 103), ylim=(-3, 103))
    axes.legend(frameon=False, fontsize=7)


def figure_cost(answers: Answers, folder: Path, plot) -> None:
    """Counted work and measured time of the selection, by length and number of indexers."""
    figure, panels = plot.subplots(1, 2, figsize=(10, 3.8))
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in read(folder, "cost"):
        groups[int(row["indexers"]), int(row["length"])].append(row)
    for arm, indexers in TRAINED:
        lengths = sorted(n for i, n in groups if i == indexers)
        style = {"color": COLOURS[arm], "label": NAMES[arm], "marker": "o", "markersize": 3}
        flops = [float(groups[indexers, n][0]["index_gflop"]) for n in lengths]
        panels[0].plot(lengths, flops, **style)
        times = [[float(r["selecting_ms"]) for r in groups[indexers, n]] for n in lengths]
        panels[1].plot(lengths, [sum(t) / len(t) for t in times], **style)
    panels[0].set(title="indexers' GFLOP for one prompt", xscale="log", yscale="log")
    panels[1].set(title="selecting, ms (32,768 tokens in all)", xscale="log", ylim=(0, None))
    panels[0].legend(frameon=False, fontsize=7)
    for axes in panels:
        axes.set_xlabel("tokens in a text")


FIGURES = {
    "length": figure_length,
    "hops": figure_hops,
    "depth": figure_depth,
    "plans": figure_plans,
    "recall": figure_recall,
    "cost": figure_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder with the CSV files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", choices=[*FIGURES, "tables"], help="only this one")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    answers = Answers(options.runs)
    if options.figure in (None, "tables"):
        tables = {
            "What the dense model answers": dense_table(answers),
            "Trained arms": trained_table(answers),
            "Trained and training-free plans": training_free_table(answers, options.runs),
            "Perplexity on the validation books": loss_table(options.runs),
            "Plans found by search": search_table(options.runs),
            "Work and time": cost_table(options.runs),
            "Training": training_table(options.runs),
        }
        text = "\n\n".join(f"## {name}\n\n" + "\n".join(rows) for name, rows in tables.items())
        (options.out / "tables.md").write_text("# Tables\n\n" + text + "\n", encoding="utf-8")
    if options.figure == "tables":
        return
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "evidence", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    for name, draw in FIGURES.items():
        if options.figure in (None, name):
            draw(answers, options.runs, pyplot)
            pyplot.tight_layout()
            pyplot.savefig(options.out / f"{name}.svg", metadata={"Date": None})
            pyplot.close()


if __name__ == "__main__":
    main()
