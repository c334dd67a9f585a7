#!/usr/bin/env python3
"""Measures Atelier and other programs in turn, and writes this machine's section of docs/performance.md.

scripts/bench --page calls it; docs/performance.md says what for. Each row is measured in rounds: Atelier, then the
others, then Atelier again, and so on, each in a process of its own; medians are of all rounds' runs. Figures are kept in
the page alone: the section of the same machine is replaced, other machines' stay.
"""
import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs", "performance.md")
PLACE = "<!-- scripts/bench --page writes above this line -->"
BOTH, NARROW = ("f32", "bf16"), ("bf16",)
# Name, piece of work, options, what is stored in, and whether others are measured too; at 512² on Stable Diffusion 1.5's
# shapes where the options say nothing else.
ROWS = [
    ("guided UNet step", "unet", [], BOTH, True),
    ("the same, weights in 8 bits", "unet", ["--quantise", "int8"], BOTH, False),
    ("the same, products of 8 bits", "unet", ["--quantise", "int8-dynamic"], NARROW, False),
    ("the same at 768²", "unet", ["--res", "768"], NARROW, False),
    ("the same at 1024²", "unet", ["--res", "1024"], NARROW, False),
    ("VAE, one picture decoded", "vae", [], BOTH, True),
    ("VAE, one picture encoded", "encode", [], BOTH, True),
    ("LoRA step", "train", [], BOTH, True),
    ("LoRA step, checkpointing", "train", ["--checkpointing"], BOTH, True),
    ("the same, batch 4", "train", ["--checkpointing", "--batch", "4"], NARROW, False),
    ("all of the UNet trained, checkpointing", "full", ["--checkpointing"], BOTH, True),
    ("`builtin:tiny`'s UNet trained, 64², batch 40", "full", ["--size", "tiny", "--res", "64", "--batch", "40"], BOTH, True),
]
OTHERS = ["torch", "openvino"]
COLORS = {"Atelier": "#c2410c", "PyTorch": "#64748b", "OpenVINO": "#94a3b8"}


def run_json(command, extra):
    environment = dict(os.environ, **extra)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        if done.returncode != 3:
            print(" ".join(command), "failed:", done.stderr[-400:], file=sys.stderr)
        return None
    return json.loads(done.stdout)


def measure(a, work, options, dtype, threads, with_others):
    """{program: {"runs_s", "peak_bytes", …}} of one row."""
    found = {}
    shapes = [] if "--size" in options else ["--size", "sd15"]
    shapes += [] if "--res" in options else ["--res", "512"]
    capped = {"ATELIER_ISA": a.isa} if a.isa else {}
    others_capped = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"} if a.isa == "avx2" else {}

    def note(name, facts):
        if facts:
            kept = found.setdefault(name, dict(facts, runs_s=[], peak_bytes=0))
            kept["runs_s"] += facts["runs_s"]
            kept["peak_bytes"] = max(kept["peak_bytes"], facts["peak_bytes"])

    for _ in range(a.rounds):
        note("Atelier", run_json(
            [f"{a.build}/atelier", "bench", work, *shapes, "--dtype", dtype, "--threads",
             str(threads), "--device", "cpu", "--repeat", str(a.repeat), "--json", *options], capped))
        for program in OTHERS if a.others and with_others else []:
            if program == "openvino" and work != "unet":
                continue
            facts = run_json(
                [f"{a.others}/bin/python", f"{ROOT}/scripts/reference/bench_others.py", program, work, dtype,
                 str(a.repeat), "--threads", str(threads), "--cache", a.cache, *options], others_capped)
            note("PyTorch" if program == "torch" else "OpenVINO", facts)
        print(work, dtype, *options, {k: round(statistics.median(v["runs_s"]), 2) for k, v in found.items()},
              file=sys.stderr)
    return found


def cell(facts):
    if not facts:
        return ""
    runs = facts["runs_s"]
    return f"{statistics.median(runs):.2f} s ({min(runs):.2f}–{max(runs):.2f})"


def gigabytes(facts):
    return f"{facts['peak_bytes'] / 1e9:.2f}" if facts else ""


def table(rows):
    lines = ["| work | stored in | Atelier | PyTorch | OpenVINO | Atelier ÷ the fastest other | of the peak | GB: "
             "Atelier | PyTorch | OpenVINO |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name, dtype, found in rows:
        ours = found["Atelier"]
        median = statistics.median(ours["runs_s"])
        others = [statistics.median(v["runs_s"]) for k, v in found.items() if k != "Atelier"]
        ratio = f"**{median / min(others):.2f}**" if others else ""
        share = f"{100 * ours['flop'] / median / ours['peak_flops']:.0f} %"
        lines.append(
            f"| {name} | {dtype} | {cell(ours)} | {cell(found.get('PyTorch'))} | {cell(found.get('OpenVINO'))} | {ratio} | "
            f"{share} | {gigabytes(ours)} | {gigabytes(found.get('PyTorch'))} | {gigabytes(found.get('OpenVINO'))} |")
    return "\n".join(lines)


def plot(rows, title):
    """Bars of seconds, the shorter the better, each row on a scale of its own: what the slowest took."""
    bar, gap, left, width = 18, 16, 330, 400
    y, parts = 44, []
    compared = [row for row in rows if len(row[2]) > 1] or rows
    for name, dtype, found in compared:
        name = name.replace("`", "")
        medians = {k: statistics.median(v["runs_s"]) for k, v in found.items()}
        most = max(medians.values())
        parts.append(f'<text x="{left - 10}" y="{y + 14}" text-anchor="end">{name}, {dtype}</text>')
        for program in COLORS:
            if program not in medians:
                continue
            length = width * medians[program] / most
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 3}" fill="{COLORS[program]}"/>')
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 12}">{program} {medians[program]:.2f} s</text>')
            y += bar
        y += gap
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{y}" font-family="sans-serif" font-size="13">\n'
            f'<rect width="860" height="{y}" fill="white"/>\n<text x="12" y="24" font-size="15">{title}</text>\n'
            + "\n".join(parts) + "\n</svg>\n")


def doctor(a):
    done = subprocess.run([f"{a.build}/atelier", "doctor", "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def section(a, rows, threads):
    ours = rows[0][2]["Atelier"]
    isa = re.sub(r"^cpu \((.*)\)$", r"\1", ours["device"])
    heading = f"{doctor(a)['processor']['name']}, {threads} threads, {isa}" + (", capped" if a.isa else "")
    slug = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
    programs = sorted({v["program"] for _, _, found in rows for k, v in found.items() if k != "Atelier"})
    peaks = sorted({(dtype, found["Atelier"]["peak_flops"]) for _, dtype, found in rows}, reverse=True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    said = [
        f"{datetime.date.today()}, {memory:.0f} GiB of memory, Atelier {version(a)} over oneDNN {doctor(a)['libraries']['oneDNN']}; "
        + ("; ".join(programs) if programs else "nothing else was installed") + ".",
        f"Median of {a.rounds * a.repeat} runs, {a.rounds} round{'s' * (a.rounds != 1)} in turn (fastest–slowest). The peak is that of a product "
        "of matrices of 2048×2048: "
        + ", ".join(f"{dtype} {flops / 1e9:.0f} GFLOP/s" for dtype, flops in dict(peaks).items())
        + "; a share above 100 % is Winograd's.",
    ]
    if a.isa:
        said.append(f"All programs were told to use no more than {a.isa}, which OpenVINO may not heed.")
    with open(os.path.join(ROOT, "docs", f"performance-{slug}.svg"), "w") as f:
        f.write(plot(rows, f"Stable Diffusion 1.5 at 512×512: {heading}"))
    body = "\n".join([f"### {heading}", "", *said, "", f"![seconds, the shorter the better](performance-{slug}.svg)", "",
                      table(rows), ""])
    return slug, body


def version(a):
    text = subprocess.run([f"{a.build}/atelier", "--version"], capture_output=True, text=True).stdout
    return text.split()[-1] if text.split() else "?"


def write(slug, body):
    with open(PAGE) as f:
        page = f.read()
    begin, end = f"<!-- machine {slug} -->\n", f"<!-- end of {slug} -->\n"
    whole = begin + body + end
    if begin in page:
        head, rest = page.split(begin, 1)
        page = head + whole + rest.split(end, 1)[1]
    else:
        page = page.replace(PLACE, whole + "\n" + PLACE, 1)
    with open(PAGE, "w") as f:
        f.write(page)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default=os.path.join(ROOT, "build"))
    p.add_argument("--others", help="virtual environment with torch, diffusers, peft and openvino")
    p.add_argument("--cache", default="/tmp", help="where OpenVINO's model is kept")
    p.add_argument("--isa", choices=["avx2"], help="cap all programs")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--repeat", type=int, default=3)
    p.add_argument("--only", action="append", choices=["unet", "vae", "encode", "train", "full"])
    p.add_argument("--dtype", action="append", choices=["f32", "bf16"])
    a = p.parse_args()
    threads = doctor(a)["processor"]["threads_used"]
    rows = []
    for name, work, options, dtypes, with_others in ROWS:
        for dtype in dtypes:
            if (a.only and work not in a.only) or (a.dtype and dtype not in a.dtype):
                continue
            found = measure(a, work, options, dtype, threads, with_others)
            if "Atelier" not in found:
                sys.exit(f"{name}, {dtype}: Atelier gave no figures")
            rows.append((name, dtype, found))
            write(*section(a, rows, threads))  # what is measured stays, whatever becomes of the rest


main()
